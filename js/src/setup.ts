/**
 * How a lab is set up, as front-ends see it: a part of the shapes that `contract.ts` begins with, held to Python by the
 * same test.
 */

import type { Rate } from "./contract";

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
  warning: string;
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
