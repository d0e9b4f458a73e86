import { playwright } from "@vitest/browser-playwright";
import { defineConfig } from "vitest/config";
// @ts-expect-error: a script without types
import { leaned, UPLOT } from "./scripts/lean.mjs";

const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
];

/** Components run in a real browser, over the uPlot that widgets have: heights, focus, canvas are as for people. */
export default defineConfig({
  plugins: [{ name: "lean-uplot", transform: (code, id) => (UPLOT.test(id) ? leaned(code) : null) }],
  optimizeDeps: { exclude: ["uplot"] },
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  test: {
    include: ["tests/**/*.test.{ts,tsx}"],
    browser: {
      enabled: true,
      headless: true,
      screenshotFailures: false,
      provider: playwright({ launchOptions: { executablePath, args } }),
      instances: [{ browser: "chromium", viewport: { width: 1000, height: 800 } }],
    },
  },
});
