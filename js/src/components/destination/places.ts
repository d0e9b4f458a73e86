/** The places that a trained model can go to: what each needs, and how it is told. Pure. */

import type { Destination } from "../../contract";
import type { PublishingView } from "../../setup";
import type { Translate } from "../../words";

export type Kind = Destination["kind"];

export const HOME: Destination = { kind: "home" };

const AWAY = { checkpoints: false, sender: "lab" } as const;

/** What a place begins with. */
export const BLANK: { [K in Kind]: Extract<Destination, { kind: K }> } = {
  home: { kind: "home" },
  hub: { kind: "hub", repo_id: "", private: true, ...AWAY },
  s3: { kind: "s3", bucket: "", prefix: "", endpoint_url: "", region: "us-east-1", ...AWAY },
};

export function kindName(t: Translate, kind: Kind): string {
  return { home: t("This lab"), hub: t("Hugging Face Hub"), s3: t("S3 bucket") }[kind];
}

export function kindFacts(t: Translate, kind: Kind): string {
  return {
    home: t("Home, to the results folder"),
    hub: t("A model repository"),
    s3: t("Amazon, MinIO, R2, B2 and others"),
  }[kind];
}

/** One line: where it is. */
export function placeText(t: Translate, place: Destination): string {
  if (place.kind === "home") return t("The results folder of this lab");
  if (place.kind === "hub") {
    return place.private
      ? t("Hugging Face Hub: {repo}, private", { repo: place.repo_id })
      : t("Hugging Face Hub: {repo}, public", { repo: place.repo_id });
  }
  const uri = `s3://${place.bucket}/${place.prefix}`;
  return place.endpoint_url ? t("{place} at {address}", { place: uri, address: place.endpoint_url }) : uri;
}

/** Who brings it there, and so what travels with the job; empty at home. */
export function wayText(t: Translate, place: Destination): string {
  if (place.kind === "home") return "";
  return place.sender === "lab"
    ? t("It comes home first, and the lab sends it on: no key of yours travels with the job.")
    : t("The trainer sends it there itself: your keys for it travel with the job.");
}

/** What the lab lacks for this place; empty where it lacks nothing, or that is not known. */
export function lacking(t: Translate, kind: Kind, publishing: PublishingView | null): string {
  if (!publishing || kind === "home") return "";
  if (kind === "s3") {
    return publishing.s3_configured
      ? ""
      : t("The lab has no keys for S3 yet: set {names} where it runs.", {
          names: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY",
        });
  }
  if (!publishing.hf_configured) {
    return t("The lab has no Hugging Face token yet: set {names} where it runs.", { names: "HF_TOKEN" });
  }
  return publishing.hf_token_valid === false ? (publishing.message ?? "") : "";
}
