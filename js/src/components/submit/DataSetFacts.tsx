/** One data set of a plan: what is read of it, every file, and what stays with its reason. */

import type { DatasetManifest, FileEntry, Withheld } from "../../contract";
import { bytes, count, type Translate, useWords } from "../../words";
import { Listing } from "./Listing";

const NAMED = 3;
const SHORT_SHA = 12;

export function DataSetFacts({ dataset, remote }: { dataset: DatasetManifest; remote: boolean }) {
  const t = useWords();
  const size = dataset.files.reduce((sum, file) => sum + file.bytes, 0);
  const files = count(dataset.files.length);
  const facts: [string, string][] = [
    [t("Files"), files],
    [t("Size"), bytes(t, size)],
    [t("Images"), count(dataset.images)],
    [t("Captions"), count(dataset.captions_found)],
    [t("Without caption"), count(dataset.captions_missing.length)],
    [t("With a location"), count(dataset.with_gps)],
  ];
  return (
    <section class="stc-plan-set" aria-label={dataset.id}>
      <h4>
        <bdi>{dataset.id}</bdi>
      </h4>
      <p class="stc-mono stc-faint">
        <bdi>{dataset.root}</bdi>
      </p>
      <dl class="stc-figures">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd class="stc-number">{value}</dd>
          </div>
        ))}
      </dl>
      {dataset.strip_exif && (
        <p>{t("What pictures tell beside their pixels is taken out on the way: place, camera, comments.")}</p>
      )}
      {dataset.with_gps > 0 && remote && !dataset.strip_exif && (
        <p>{t("Photos with a location say where they were taken; that is sent with them.")}</p>
      )}
      <Missing names={dataset.captions_missing} />
      <Listing
        title={
          remote
            ? t("Files that are sent ({count})", { count: files })
            : t("Files that are read ({count})", { count: files })
        }
        rows={dataset.files}
        text={nameOf}
        draw={drawFile(t)}
      />
      {withheldGroups(dataset.withheld).map((group) => (
        <Listing
          key={group.key}
          title={groupTitle(t, group)}
          rows={group.entries}
          text={withheldText}
          draw={group.secret ? drawReason : drawWithheld(group.reason)}
        />
      ))}
    </section>
  );
}

function Missing({ names }: { names: string[] }) {
  const t = useWords();
  if (names.length === 0) return null;
  if (names.length <= NAMED) {
    return <p>{t("Without caption: {names}", { names: names.join(", ") })}</p>;
  }
  return (
    <Listing
      title={t("Images without caption ({count})", { count: count(names.length) })}
      rows={names}
      text={itself}
      draw={drawName}
    />
  );
}

export interface WithheldGroup {
  key: string;
  /** What the entries have in common: their reason up to its details. */
  reason: string;
  secret: boolean;
  wanted: boolean;
  entries: Withheld[];
}

/** What stays, by reason: secrets first and in one group, then what training would have read, then the rest. */
export function withheldGroups(withheld: Withheld[]): WithheldGroup[] {
  const groups = new Map<string, WithheldGroup>();
  for (const entry of withheld) {
    const reason = entry.reason.split(":")[0];
    const key = entry.secret ? "secret" : `${entry.wanted} ${reason}`;
    const group = groups.get(key) ?? { key, reason, secret: entry.secret, wanted: entry.wanted, entries: [] };
    group.entries.push(entry);
    groups.set(key, group);
  }
  const rank = (group: WithheldGroup) => (group.secret ? 0 : group.wanted ? 1 : 2);
  return [...groups.values()].sort((a, b) => rank(a) - rank(b) || b.entries.length - a.entries.length);
}

function groupTitle(t: Translate, { secret, reason, entries }: WithheldGroup): string {
  const all = count(entries.length);
  return secret
    ? t("Left out ({count}): looks like a secret", { count: all })
    : t("Left out ({count}): {reason}", { count: all, reason });
}

const itself = (name: string) => name;
const nameOf = (file: FileEntry) => file.name;
const withheldText = (entry: Withheld) => `${entry.name} ${entry.reason}`;

const drawName = (name: string) => (
  <bdi class="stc-cut" title={name}>
    {name}
  </bdi>
);

const drawFile = (t: Translate) => (file: FileEntry) => (
  <>
    {drawName(file.name)}
    <span class="stc-number stc-end">{bytes(t, file.bytes)}</span>
    <code class="stc-sha" title={file.sha256}>
      {file.sha256.slice(0, SHORT_SHA)}
    </code>
  </>
);

const drawReason = (entry: Withheld) => (
  <>
    {drawName(entry.name)}
    <span class="stc-cut stc-faint" title={entry.reason}>
      {entry.reason}
    </span>
  </>
);

const drawWithheld = (common: string) => (entry: Withheld) =>
  entry.reason === common ? drawName(entry.name) : drawReason(entry);
