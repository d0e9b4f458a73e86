// What JSX becomes in the widgets' bundles (build.mjs).
export { Fragment, h } from "preact";
