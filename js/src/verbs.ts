/**
 * What front-ends ask: every verb, with what it takes and what it answers.
 *
 * The shapes are those of `contract.ts`; `tests/test_contract.py` holds the names to `simpletuner_lab.client.Client`.
 */

import type {
  ConsentMode,
  Decision,
  DeliveryView,
  Destination,
  EventView,
  JobDetail,
  JobPage,
  JobState,
  JobView,
  LogChunk,
  MetricsView,
  OutputsView,
  PlanView,
  ProviderView,
  SubmitRequest,
  SyncView,
} from "./contract";
import type { LimitChanges, LimitsView, SpendView } from "./money";
import type {
  Billing,
  Mode,
  ProviderConfig,
  PublishingView,
  ReceivingStep,
  ReceivingView,
  Validation,
  WebhookReport,
} from "./setup";

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
  /** Where else its model goes. */
  deliveries: { takes: { job_id: string }; gives: DeliveryView[] };
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
  set_token: { takes: { provider: string; token: string }; gives: { success: boolean; warning: string } };
  delete_token: { takes: { provider: string }; gives: { deleted: boolean; warning: string } };
  validate: { takes: { provider: string }; gives: Validation };
  billing: { takes: { provider: string }; gives: Billing };
  spend: { takes: { days: number }; gives: SpendView };
  limits: { takes: Record<string, never>; gives: LimitsView };
  set_limits: { takes: { changes: LimitChanges }; gives: LimitsView };
  test_webhook: { takes: { provider: string; mode: Mode }; gives: WebhookReport };
  consent: { takes: Record<string, never>; gives: { consent: ConsentMode } };
  set_consent: { takes: { mode: ConsentMode }; gives: { consent: ConsentMode } };
}

export type Verb = keyof Verbs;
export type Takes<V extends Verb> = Verbs[V]["takes"];
export type Gives<V extends Verb> = Verbs[V]["gives"];
