/**
 * What front-ends see: the JSON shapes of REST, as TypeScript types.
 *
 * The Python side is `simpletuner_lab/services/views.py`; `tests/test_contract.py` holds the two together. Times are
 * ISO 8601 in UTC, money is US dollars, sizes are bytes, durations are seconds.
 */

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
}

/** One setting of a provider: what a form needs to draw it. */
export interface SettingField {
  name: string;
  kind: "text" | "number" | "flag" | "list";
  default: unknown;
  /** All that it may be; empty: anything of its kind. */
  choices: string[];
  doc: string;
}

/** The settings of a provider, and whether it has its token. Never a secret. */
export interface ProviderConfig {
  provider: string;
  config: Record<string, unknown>;
  fields: SettingField[];
  token_name: string;
  token_set: boolean;
  token_problem: string;
  /** What these settings mean for jobs that are not done with; empty where nothing. */
  warning?: string;
}

/** Whether a provider can be used now. */
export interface Validation {
  valid: boolean;
  user_info: string;
  error: string;
  hint: string;
}

/** What runs at a provider have cost by the lab's own ledger. */
export interface Billing {
  balance: number | null;
  balance_note: string;
  spent_usd: number;
  runs: number;
  runs_without_price: number;
  metered_s: number;
  hardware: Rate[];
  default_hardware: string;
}

/** How many jobs are new, how many known ones were looked at, and the new ones. */
export interface SyncView {
  synced: number;
  updated: number;
  jobs: JobView[];
}

/** With what the lab can send models elsewhere. */
export interface PublishingView {
  hf_configured: boolean;
  /** Null: there is no token, or the Hub does not answer. */
  hf_token_valid: boolean | null;
  hf_username: string | null;
  hub_model_id: string | null;
  push_to_hub: boolean;
  s3_configured: boolean;
  local_upload_available: boolean;
  local_upload_dir: string | null;
  message: string | null;
}

/** How models come home: the endpoint that trainers elsewhere upload to. */
export interface ReceivingView {
  enabled: boolean;
  endpoint_url: string;
  bucket: string;
  outputs_dir: string;
}

export interface ReceivingStep {
  name: string;
  status: "ok" | "failed" | "warning" | "skipped";
  message: string;
  hint: string;
}

/** Who sends the webhook of a test: the lab itself, or the provider. */
export type Mode = "direct" | "provider";

/** The test of a provider's webhooks. */
export interface WebhookReport {
  provider: string;
  mode: Mode;
  url: string;
  reached: boolean;
  steps: ReceivingStep[];
  took_s: number;
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

export interface JobsQuery {
  states?: JobState[];
  provider?: string;
  text?: string;
  sort?: string;
  limit?: number;
  offset?: number;
}

/** Each verb with what it takes and what it answers; the names are those of `simpletuner_lab.client.Client`. */
export interface Verbs {
  plan: { takes: { request: SubmitRequest }; gives: PlanView };
  submit: { takes: { request: SubmitRequest; approve: string | null; key: string }; gives: JobView };
  jobs: { takes: JobsQuery; gives: JobPage };
  job: { takes: { job_id: string }; gives: JobView };
  detail: { takes: { job_id: string }; gives: JobDetail };
  events: { takes: { after: number; job_id?: string; limit?: number }; gives: EventView[] };
  log: { takes: { job_id: string; offset: number; limit?: number }; gives: LogChunk };
  metrics: { takes: { job_id: string; points?: number; after_step?: number }; gives: MetricsView };
  outputs: { takes: { job_id: string }; gives: OutputsView };
  /** One delivered file, as something an `<img>` shows or a link keeps: a URL of this server, or a data URL. */
  picture: { takes: { job_id: string; path: string }; gives: { src: string } };
  /** All delivered files as one zip: its address. */
  archive: { takes: { job_id: string }; gives: { src: string } };
  /** Sends a finished job's model somewhere else too. */
  push: { takes: { job_id: string; destination: Destination }; gives: DeliveryView };
  /** Ends one delivery that waits or is under way. */
  give_up: { takes: { job_id: string; id: string }; gives: DeliveryView[] };
  /** Where models go unless a request says otherwise. */
  destination: { takes: Record<string, never>; gives: Destination };
  set_destination: { takes: { destination: Destination }; gives: Destination };
  publishing: { takes: Record<string, never>; gives: PublishingView };
  receiving: { takes: Record<string, never>; gives: ReceivingView };
  test_receiving: { takes: Record<string, never>; gives: ReceivingStep[] };
  cancel: { takes: { job_id: string }; gives: JobView };
  resolve: { takes: { job_id: string; action: Decision }; gives: JobView };
  delete: { takes: { job_id: string; outputs: boolean }; gives: Record<string, never> };
  providers: { takes: Record<string, never>; gives: ProviderView[] };
  sync: { takes: { provider: string }; gives: SyncView };
  provider: { takes: { provider: string }; gives: ProviderConfig };
  set_provider: { takes: { provider: string; config: Record<string, unknown> }; gives: ProviderConfig };
  set_token: { takes: { provider: string; token: string }; gives: { success: boolean } };
  delete_token: { takes: { provider: string }; gives: { deleted: boolean } };
  validate: { takes: { provider: string }; gives: Validation };
  billing: { takes: { provider: string }; gives: Billing };
  test_webhook: { takes: { provider: string; mode: Mode }; gives: WebhookReport };
  consent: { takes: Record<string, never>; gives: { consent: ConsentMode } };
  set_consent: { takes: { mode: ConsentMode }; gives: { consent: ConsentMode } };
}

export type Verb = keyof Verbs;
export type Takes<V extends Verb> = Verbs[V]["takes"];
export type Gives<V extends Verb> = Verbs[V]["gives"];
