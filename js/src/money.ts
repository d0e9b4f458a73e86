/**
 * Money as front-ends see it: a part of the shapes that `contract.ts` begins with, held to Python by the same test.
 *
 * Amounts are US dollars; null is not known, which is not 0. Days are ISO dates in the zone of the limits.
 */

export type Period = "daily" | "weekly" | "monthly";
export type LimitAction = "warn" | "block";

/** What a job asks for: the most it may cost, and the least it will. Null: not known. */
export interface Claim {
  most_usd: number | null;
  least_usd: number | null;
  usd_per_hour: number | null;
}

/** A spend limit and where it stands. Days are of the zone of the limits; null: not known. */
export interface LimitState {
  /** `all`, or the id of a provider. */
  scope: string;
  amount_usd: number;
  period: Period;
  action: LimitAction;
  spent_usd: number | null;
  committed_usd: number | null;
  since: string;
  until: string;
  /** Spent, committed and the job in question together. */
  with_job_usd: number | null;
  /** Of what is spent: what runs count for whose cost nobody told, and how many these are. */
  assumed_usd: number;
  assumed_runs: number;
}

/** Whether a job may be paid for, and what is reserved for it if so. */
export interface SpendVerdict {
  claim: Claim;
  reserved_usd: number | null;
  allowed: boolean;
  refusal: string;
  hint: string;
  warnings: string[];
  limits: LimitState[];
}

export interface SpendLimit {
  enabled: boolean;
  amount_usd: number;
  period: Period;
  action: LimitAction;
}

export interface JobLimit {
  amount_usd: number | null;
  action: LimitAction;
}

export interface SpendLimits {
  time_zone: string;
  total: SpendLimit;
  providers: Record<string, SpendLimit>;
  job: JobLimit;
}

export interface LimitsView {
  limits: SpendLimits;
  states: LimitState[];
}

/** What of the limits is to change; what is left out stays. */
export interface LimitChanges {
  time_zone?: string;
  total?: Partial<SpendLimit>;
  job?: Partial<JobLimit>;
}

export interface DaySpend {
  day: string;
  cost_usd: number;
  runs: number;
  unpriced: number;
}

export interface NamedSpend {
  name: string;
  cost_usd: number;
  runs: number;
  unpriced: number;
}

export interface JobSpend {
  job_id: string;
  /** Empty once it was deleted. */
  config_name: string;
  provider: string;
  owner: string;
  cost_usd: number;
  runs: number;
  unpriced: number;
  metered_s: number;
}

/** What was spent in the last days; `unpriced`: runs of which that is not known. */
export interface SpendView {
  days: number;
  time_zone: string;
  since: string;
  total_usd: number;
  runs: number;
  unpriced: number;
  by_day: DaySpend[];
  by_provider: NamedSpend[];
  by_user: NamedSpend[];
  by_job: JobSpend[];
  limits: LimitState[];
}
