/** Values of the lab's shapes, as a running lab would answer them; a test names what it is about. */

import type {
  EventView,
  JobState,
  JobView,
  MetricsView,
  OutputView,
  PlanView,
  Progress,
  ProviderView,
  SubmitRequest,
} from "../src/contract";
import type { Billing, ProviderConfig, PublishingView, SettingField } from "../src/setup";

export const NO_PROGRESS: Progress = {
  stage: "",
  stage_label: "",
  stage_done: 0,
  stage_total: 0,
  step: 0,
  total_steps: 0,
  epoch: 0,
  loss: null,
  lr: null,
  step_s: null,
  images_per_s: null,
  eta_s: null,
  memory_mb: null,
};

export const HALF_WAY: Progress = {
  stage: "train",
  stage_label: "training lora",
  stage_done: 0,
  stage_total: 0,
  step: 200,
  total_steps: 400,
  epoch: 8.33,
  loss: 0.1234,
  lr: 1e-4,
  step_s: 0.25,
  images_per_s: 4,
  eta_s: 50,
  memory_mb: 5120,
};

const ENDED: JobState[] = ["completed", "failed", "cancelled"];

/** A job that runs on this machine and is half way; its state decides what follows from it. */
export function sampleJob(over: Partial<JobView> = {}): JobView {
  const status = over.status ?? "running";
  const ended = ENDED.includes(status);
  return {
    job_id: "250301-0a1b2c3d4e",
    job_type: "local",
    provider: "local",
    target: "trainer",
    status,
    config_name: "cats",
    hardware_type: "cpu",
    attempt: 1,
    created_at: "2025-03-01T10:00:00.000Z",
    updated_at: "2025-03-01T10:01:00.000Z",
    started_at: "2025-03-01T10:00:10.000Z",
    completed_at: ended ? "2025-03-01T10:01:00.000Z" : null,
    duration_seconds: 50,
    is_terminal: ended,
    is_active: !ended,
    cancel_requested: false,
    progress: HALF_WAY,
    cost_usd: 0,
    waiting: "",
    error: null,
    error_message: null,
    digest: "d1".repeat(32),
    result_sha256: "",
    log_bytes: 0,
    uncertain: false,
    priority: 10,
    queue_position: null,
    version: 7,
    ...over,
  };
}

export function sampleEvent(seq: number, kind: string, data: EventView["data"] = {}, second = seq): EventView {
  const at = new Date(Date.parse("2025-03-01T10:00:00.000Z") + second * 1000).toISOString();
  return { seq, job_id: "250301-0a1b2c3d4e", kind, at, data };
}

export function sampleProvider(over: Partial<ProviderView> = {}): ProviderView {
  return {
    id: "local",
    name: "This machine",
    remote: false,
    configured: true,
    coming_soon: false,
    account: "",
    problem: "",
    hint: "",
    hardware: [{ hardware: "cpu", label: "CPU, 16 cores", usd_per_hour: 0, as_of: "", source: "your own machine" }],
    targets: [
      {
        id: "trainer",
        label: "Trainer on this machine",
        version: "0.1.0",
        live_metrics: true,
        resume: true,
        inputs: ["archive"],
        ours: true,
        mixes: false,
        manifest: true,
        delivers: true,
        deadline: true,
        lacks: [],
      },
    ],
    max_upload_bytes: null,
    run_limit_s: null,
    status_page: "",
    cost_per_hour: 0,
    description: "Runs trainers on this machine.",
    model: "trainer",
    version: "0.1.0",
    hardware_profile: "cpu",
    hardware_profiles: [
      {
        id: "cpu",
        model: "trainer",
        label: "CPU, 16 cores",
        hardware_type: "cpu",
        cost_per_hour: 0,
        cost_per_second: 0,
      },
    ],
    ...over,
  };
}

/** One data set of two pictures with one caption, for this machine. */
export function samplePlan(over: Partial<PlanView> = {}): PlanView {
  const provider = sampleProvider();
  return {
    name: "cats",
    digest: "d1".repeat(32),
    consent: "needed",
    provider: provider.id,
    account: "",
    endpoint: "this machine",
    remote: false,
    target: provider.targets[0],
    rate: provider.hardware[0],
    destination: { kind: "home" },
    steps: 400,
    estimate: { seconds_low: 90, seconds_high: 150, usd_low: 0, usd_high: 0, basis: "your last 3 runs here" },
    datasets: [
      {
        id: "cats",
        root: "/home/ann/cats",
        files: [
          { name: "1.png", bytes: 400_000, sha256: "a1".repeat(32) },
          { name: "1.txt", bytes: 40, sha256: "b2".repeat(32) },
          { name: "2.png", bytes: 90_000, sha256: "c3".repeat(32) },
        ],
        withheld: [{ name: ".env", reason: "may hold secrets", secret: true, wanted: false }],
        images: 2,
        captions_found: 1,
        captions_missing: ["2.png"],
        with_gps: 0,
        strip_exif: false,
      },
    ],
    total_files: 3,
    total_bytes: 490_040,
    credentials: [],
    stays: [],
    warnings: [],
    config: { model_family: "sd", model_type: "lora", max_train_steps: 400 },
    dataloader: [{ id: "cats", type: "local", instance_data_dir: "cats" }],
    ...over,
  };
}

/** The curve of steps 1 to `count`, falling with noise that is the same each time. */
export function sampleCurve(count: number, over: Partial<MetricsView> = {}): MetricsView {
  const step = Array.from({ length: count }, (_, index) => index + 1);
  const noise = (at: number) => Math.abs(Math.sin(at * 12.9898) * 43758.5453) % 1;
  return {
    job_id: "250301-0a1b2c3d4e",
    total: count,
    step,
    loss: step.map((at) => 0.08 + 0.4 * Math.exp(-at / (count / 4)) * (0.7 + 0.6 * noise(at))),
    lr: step.map((at) => 1e-4 * Math.min(1, at / (count / 10))),
    grad_norm: step.map(() => 1),
    ...over,
  };
}

/** A lab that could send models everywhere. */
export function samplePublishing(over: Partial<PublishingView> = {}): PublishingView {
  return {
    hf_configured: true,
    hf_token_valid: true,
    hf_username: "ann",
    hub_model_id: "",
    push_to_hub: false,
    s3_configured: true,
    local_upload_available: true,
    local_upload_dir: "/home/ann/out",
    message: "",
    ...over,
  };
}

/** A delivered file. */
export function sampleOutput(path: string, over: Partial<OutputView> = {}): OutputView {
  return { path, bytes: 1000, modified_at: "2025-03-01T10:00:30.000Z", sha256: "", ...over };
}

/** A request for one data set, as Python's `submit(config, data)` makes it. */
export function sampleRequest(over: Partial<SubmitRequest> = {}): SubmitRequest {
  return {
    config: { pretrained_model_name_or_path: "builtin:tiny", max_train_steps: 400, seed: 7 },
    dataloader_config: [
      { id: "cats", type: "local", instance_data_dir: "/home/ann/cats", caption_strategy: "textfile", repeats: 2 },
    ],
    provider: "local",
    target: "",
    hardware_profile: "",
    config_name: "cats",
    destination: { kind: "home" },
    strip_exif: false,
    ...over,
  };
}

/** This machine, one elsewhere with prices and limits, one that is announced, and one that is not set up. */
export function sampleProviders(): ProviderView[] {
  const off = { remote: true, configured: false, hardware: [], targets: [], cost_per_hour: null };
  return [
    sampleProvider(),
    sampleProvider({
      id: "replicate",
      name: "Replicate",
      remote: true,
      account: "ann",
      hardware: [
        { hardware: "l40s", label: "L40S", usd_per_hour: 3.51, as_of: "2026-01-05", source: "the price list" },
        { hardware: "a100", label: "A100 80 GB", usd_per_hour: null, as_of: "", source: "" },
      ],
      targets: [
        {
          id: "ours",
          label: "Our trainer",
          version: "9f3c",
          live_metrics: true,
          resume: true,
          inputs: ["archive"],
          ours: true,
          mixes: false,
          manifest: true,
          delivers: true,
          deadline: true,
          lacks: [],
        },
        {
          id: "theirs",
          label: "The original",
          version: "77aa",
          live_metrics: false,
          resume: false,
          inputs: ["archive"],
          ours: false,
          mixes: false,
          manifest: true,
          delivers: true,
          deadline: true,
          lacks: [],
        },
      ],
      max_upload_bytes: 104_857_600,
      run_limit_s: 1800,
      status_page: "https://status.replicate.example",
      cost_per_hour: 3.51,
    }),
    sampleProvider({
      ...off,
      id: "elsewhere",
      name: "Elsewhere",
      problem: "no token is set",
      hint: "set ELSEWHERE_TOKEN",
    }),
    sampleProvider({
      ...off,
      id: "announced",
      name: "Announced",
      coming_soon: true,
      problem: "announced, not open yet",
    }),
  ];
}

/** 96 files that would be sent to another machine. */
export function sampleCloudPlan(over: Partial<PlanView> = {}): PlanView {
  const provider = sampleProviders()[1];
  const files = Array.from({ length: 96 }, (_, index) => ({
    name: `cats/${String(index >> 1).padStart(3, "0")}.${index % 2 ? "txt" : "png"}`,
    bytes: index % 2 ? 41 : 10_376,
    sha256: index.toString(16).padStart(2, "0").repeat(32),
  }));
  return samplePlan({
    provider: provider.id,
    account: provider.account,
    endpoint: "https://api.replicate.example",
    remote: true,
    target: provider.targets[0],
    rate: provider.hardware[0],
    estimate: { seconds_low: 400, seconds_high: 720, usd_low: 0.39, usd_high: 0.7, basis: "median of 3 finished runs" },
    datasets: [
      {
        id: "cats",
        root: "/home/ann/cats",
        files,
        withheld: [
          { name: "cats/notes.md", reason: "not needed by training", secret: false, wanted: false },
          { name: "cats/old.md", reason: "not needed by training", secret: false, wanted: false },
          {
            name: "cats/.cache/",
            reason: "hidden: training reads no name that starts with a dot",
            secret: false,
            wanted: false,
          },
          { name: "cats/bad.png", reason: "broken image: cut off", secret: false, wanted: true },
          { name: "cats/.env", reason: "secret: .env is a name that holds credentials", secret: true, wanted: false },
        ],
        images: 48,
        captions_found: 46,
        captions_missing: ["cats/003.png", "cats/017.png"],
        with_gps: 3,
        strip_exif: false,
      },
    ],
    total_files: 96,
    total_bytes: 500_016,
    credentials: [{ name: "storage grant", purpose: "delivers the model to this lab: this job's folder alone" }],
    config: { pretrained_model_name_or_path: "builtin:tiny", model_type: "lora", max_train_steps: 400, seed: 7 },
    stays: ["captions and configuration in the run's metadata, for 30 days"],
    warnings: [
      "cats: 3 photos carry the place where they were taken",
      "The original cannot go on after an interruption",
    ],
    ...over,
  });
}

/** How a provider with every kind of setting is set up; its token is there. */
export function sampleConfig(over: Partial<ProviderConfig> = {}): ProviderConfig {
  const config = {
    base_url: "https://api.replicate.example",
    hardware: "l40s",
    timeout_s: 30,
    webhook_allowed_ips: [],
    verify_tls: true,
  };
  const docs: [keyof typeof config, SettingField["kind"], string][] = [
    ["base_url", "text", "Where the API is."],
    ["hardware", "text", "What these models run on."],
    ["timeout_s", "number", "How long an answer may take."],
    ["webhook_allowed_ips", "list", "Addresses and networks that webhooks may come from; empty: any."],
    ["verify_tls", "flag", "False lets anybody on the way read and change what is sent."],
  ];
  const choices = (name: string) => (name === "hardware" ? ["l40s", "a100"] : []);
  return {
    provider: "replicate",
    config,
    fields: docs.map(([name, kind, doc]) => ({ name, kind, default: config[name], choices: choices(name), doc })),
    token_name: "REPLICATE_API_TOKEN",
    token_set: true,
    token_problem: "",
    warning: "",
    ...over,
  };
}

/** Four runs, and prices of which one is not known. */
export function sampleBilling(over: Partial<Billing> = {}): Billing {
  return {
    balance: null,
    balance_note: "Replicate does not tell its balance; this is what runs of this lab have cost",
    spent_usd: 1.23,
    runs: 4,
    runs_without_price: 1,
    metered_s: 1260,
    hardware: sampleProviders()[1].hardware,
    default_hardware: "l40s",
    ...over,
  };
}
