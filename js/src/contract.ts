/**
 * What front-ends see: the JSON shapes of REST, as TypeScript types.
 *
 * The Python side is `simpletuner_lab/services/views.py`; `tests/test_contract.py` holds the two together. Times are
 * ISO 8601 in UTC, money is US dollars, sizes are bytes, durations are seconds.
 */

import type { SpendVerdict } from "./money";

export type JobState = "pending" | "uploading" | "queued" | "running" | "completed" | "failed" | "cancelled";

export type DeliveryState = "waiting" | "sending" | "delivered" | "failed" | "given_up";

export interface Progress {
  stage: string;
  stage_label: string;
  stage_done: number;
  stage_total: number;
  step: number;
  total_steps: number;
  epoch: number;
  loss: number | null;
  lr: number | null;
  step_s: number | null;
  images_per_s: number | null;
  eta_s: number | null;
  memory_mb: number | null;
}

export interface Failure {
  code: string;
  message: string;
  hint: string;
}

export interface JobView {
  job_id: string;
  job_type: "local" | "cloud";
  provider: string;
  target: string;
  status: JobState;
  config_name: string;
  hardware_type: string;
  attempt: number;
  created_at: string;
  updated_at: string;
  started_at: string | null;
  completed_at: string | null;
  duration_seconds: number | null;
  is_terminal: boolean;
  is_active: boolean;
  cancel_requested: boolean;
  progress: Progress;
  cost_usd: number | null;
  /** One sentence: why it does not run yet. */
  waiting: string;
  error: Failure | null;
  error_message: string | null;
  digest: string;
  /** Set once every delivered file was compared with its checksum. */
  result_sha256: string;
  log_bytes: number;
  uncertain: boolean;
  priority: number;
  /** While it waits for a slot: 1 is the next. */
  queue_position: number | null;
  /** Raised by the store at each write: an answer with a lower one is older. */
  version: number;
}

export interface JobPage {
  jobs: JobView[];
  total: number;
}

export interface Target {
  id: string;
  label: string;
  version: string;
  live_metrics: boolean;
  resume: boolean;
  inputs: string[];
  ours: boolean;
  mixes: boolean;
  manifest: boolean;
  delivers: boolean;
  deadline: boolean;
  lacks: string[];
}

export interface Rate {
  hardware: string;
  label: string;
  usd_per_hour: number | null;
  as_of: string;
  source: string;
}

export interface Estimate {
  seconds_low: number | null;
  seconds_high: number | null;
  usd_low: number | null;
  usd_high: number | null;
  basis: string;
  /** Between the two; absent in plans of an older release. */
  seconds_likely?: number | null;
  usd_likely?: number | null;
}

export interface FileEntry {
  name: string;
  bytes: number;
  sha256: string;
}

export interface Withheld {
  name: string;
  reason: string;
  secret: boolean;
  wanted: boolean;
}

export interface DatasetManifest {
  id: string;
  root: string;
  files: FileEntry[];
  withheld: Withheld[];
  images: number;
  captions_found: number;
  captions_missing: string[];
  with_gps: number;
  /** Metadata of pictures is taken out on the way; sizes and digests are of what leaves. */
  strip_exif: boolean;
}

export interface Credential {
  name: string;
  purpose: string;
}

export type Sender = "lab" | "trainer";

/** The results folder of the lab itself. */
export interface HomeDestination {
  kind: "home";
}

export interface S3Destination {
  kind: "s3";
  bucket: string;
  prefix: string;
  /** Empty: Amazon's own for the region. */
  endpoint_url: string;
  region: string;
  checkpoints: boolean;
  sender: Sender;
}

export interface HubDestination {
  kind: "hub";
  repo_id: string;
  private: boolean;
  checkpoints: boolean;
  sender: Sender;
}

/** Where the trained model goes, and who brings it there: the lab after it came home, or the trainer itself. */
export type Destination = HomeDestination | S3Destination | HubDestination;

export interface PlanView {
  name: string;
  digest: string;
  consent: "given" | "needed" | "forbidden";
  provider: string;
  account: string;
  endpoint: string;
  remote: boolean;
  target: Target;
  rate: Rate;
  destination: Destination;
  steps: number;
  estimate: Estimate;
  datasets: DatasetManifest[];
  total_files: number;
  total_bytes: number;
  credentials: Credential[];
  stays: string[];
  warnings: string[];
  config: Record<string, unknown>;
  dataloader: Record<string, unknown>[];
  /** Absent in plans of an older release. */
  spend?: SpendVerdict | null;
}

export interface EventView {
  seq: number;
  job_id: string;
  kind: string;
  at: string;
  data: Record<string, string | number | boolean | null>;
}

/** A model on its way to a bucket or the Hub, or there. `url` is empty until something has arrived. */
export interface DeliveryView {
  id: string;
  state: DeliveryState;
  destination: Destination;
  url: string;
  problem: string;
  hint: string;
}

/** What one run has cost, by the time that its provider charges for. Null: not known. */
export interface ChargeView {
  attempt: number;
  hardware: string;
  metered_s: number | null;
  cost_usd: number | null;
  usd_per_hour: number | null;
  as_of: string;
  final: boolean;
}

/** What may be decided about a start of which nobody can tell whether it arrived. */
export type Decision = "resend" | "give_up";

export interface JobDetail {
  job: JobView;
  plan: PlanView;
  events: EventView[];
  /** None where it stays at home; the one asked for last at the end. */
  deliveries: DeliveryView[];
  /** One a run, in the order of the attempts. */
  charges: ChargeView[];
  metadata?: JobMetadata;
}

export interface JobMetadata {
  /** Null where snapshots were off when it was submitted. */
  snapshot: SnapshotView | null;
}

/** What a job was submitted with, as a commit of a git repository of ours. */
export interface SnapshotView {
  /** Empty while it is still to be written. */
  commit: string;
  abbrev: string;
  name: string;
  auto_generated: boolean;
  message: string;
  branch: string;
  /** Where its files are in the commit. */
  folder: string;
  was_dirty: boolean;
}

export interface LogChunk {
  job_id: string;
  logs: string;
  offset: number;
  next_offset: number;
  ended: boolean;
}

/** Columns of equal length; null where a value was not a number. */
export interface MetricsView {
  job_id: string;
  total: number;
  step: number[];
  loss: (number | null)[];
  lr: (number | null)[];
  grad_norm: (number | null)[];
}

export interface OutputView {
  path: string;
  bytes: number;
  modified_at: string;
  /** Empty where the file was not compared with a checksum, or was written since. */
  sha256: string;
}

export interface OutputsView {
  job_id: string;
  folder: string;
  verified: boolean;
  outputs: OutputView[];
}

export interface ProviderView {
  id: string;
  name: string;
  remote: boolean;
  configured: boolean;
  coming_soon: boolean;
  account: string;
  problem: string;
  hint: string;
  hardware: Rate[];
  targets: Target[];
  max_upload_bytes: number | null;
  run_limit_s: number | null;
  /** Where it says how things stand there; empty: nowhere. */
  status_page: string;
  cost_per_hour: number | null;
  description: string;
  /** The first target, which runs where none is named, and its version below. */
  model: string;
  version: string;
  /** The first hardware. */
  hardware_profile: string;
  hardware_profiles: HardwareProfile[];
}

/** One hardware of a provider in the names of the original; `hardware` has dates and sources too. */
export interface HardwareProfile {
  id: string;
  /** The target that runs there. */
  model: string;
  label: string;
  hardware_type: string;
  cost_per_hour: number | null;
  cost_per_second: number | null;
}

/** How many jobs are new, how many known ones were looked at, and the new ones. */
export interface SyncView {
  synced: number;
  updated: number;
  jobs: JobView[];
}

/** Body of plan and submit. `approve` and `idempotency_key` travel beside it. */
export interface SubmitRequest {
  config: Record<string, unknown>;
  dataloader_config: Record<string, unknown>[];
  provider: string;
  target: string;
  hardware_profile: string;
  config_name: string;
  /** Null: what the config asks for, else the default. */
  destination: Destination | null;
  /** 0 to 50, or a name of one; nothing: the usual one. */
  priority?: number | string | null;
  /** What its snapshot is called; empty: by the config's name and the time. */
  snapshot_name?: string;
  snapshot_message?: string;
  /** Pictures leave without EXIF, places, comments and text. */
  strip_exif: boolean;
}

export interface Problem {
  path: string;
  message: string;
  hint: string;
}

/** An error as every way in answers it (docs/errors.md). */
export interface ErrorView {
  code: string;
  detail: string;
  hint: string;
  problems: Problem[];
}

export type ConsentMode = "ask" | "allow" | "never";
