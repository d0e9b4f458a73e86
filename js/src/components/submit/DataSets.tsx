/** The folders of images to train on, and where their captions come from. */

import { useContext, useRef } from "preact/hooks";
import { useWords } from "../../words";
import { Button } from "../atoms";
import { type Entry, isImages, newEntry, option, withCaptions, withFolder, withOption } from "./draft";
import { Choice, Input, Problems, Section } from "./fields";

interface DataSetsProps {
  entries: Entry[];
  change: (entries: Entry[]) => void;
}

export function DataSets({ entries, change }: DataSetsProps) {
  const t = useWords();
  const { mend } = useContext(Problems);
  const list = useRef<HTMLDivElement>(null);
  const shown = entries.map((entry, index) => ({ entry, index })).filter(({ entry }) => isImages(entry));
  const add = () => {
    change([...entries, newEntry()]);
    setTimeout(() => list.current?.querySelector<HTMLElement>(`[data-place="data.${entries.length}.folder"]`)?.focus());
  };
  const remove = (index: number) => {
    mend("data.");
    change(entries.filter((_, at) => at !== index));
    setTimeout(() => list.current?.querySelector<HTMLElement>('[data-place="data.add"]')?.focus());
  };
  return (
    <Section title={t("Images")}>
      <div class="stc-stack" ref={list}>
        {shown.map(({ entry, index }) => (
          <DataSet
            key={index}
            index={index}
            entry={entry}
            folder={(folder) => change(withFolder(entries, index, folder))}
            set={(next) => change(entries.map((other, at) => (at === index ? next : other)))}
            remove={shown.length > 1 ? () => remove(index) : undefined}
          />
        ))}
        <div>
          <Button data-place="data.add" onClick={add}>
            {t("Add a folder")}
          </Button>
        </div>
      </div>
    </Section>
  );
}

interface DataSetProps {
  index: number;
  entry: Entry;
  folder: (path: string) => void;
  set: (entry: Entry) => void;
  remove?: () => void;
}

function DataSet({ index, entry, folder, set, remove }: DataSetProps) {
  const t = useWords();
  const id = String(option(entry, "id") ?? "");
  const strategy = String(option(entry, "caption_strategy") ?? "textfile");
  const prompt = option(entry, "instance_prompt");
  return (
    <fieldset class="stc-dataset" aria-label={id || t("New data set")}>
      <div class="stc-dataset-main">
        <Input
          label={t("Folder")}
          required
          place={`data.${index}.folder`}
          value={option(entry, "instance_data_dir") ?? ""}
          change={(path) => folder(String(path))}
          placeholder="/home/me/pictures"
          hint={
            id ? t("The whole path. Named {id} in the plan.", { id }) : t("The whole path, or one that starts with ~.")
          }
        />
        <Choice
          label={t("Captions")}
          place={`data.${index}.caption_strategy`}
          value={strategy}
          change={(value) => set(withCaptions(entry, value))}
          options={[
            ["textfile", t("A text file beside each image")],
            ["filename", t("The image's file name")],
            ["instanceprompt", t("One prompt for all images")],
            ["metadata", t("metadata.jsonl in the folder")],
          ]}
        />
        {remove && (
          <Button
            kind="quiet"
            class="stc-button stc-remove"
            aria-label={t("Remove data set {id}", { id })}
            onClick={remove}
          >
            {t("Remove")}
          </Button>
        )}
      </div>
      {(strategy === "instanceprompt" || (prompt !== undefined && prompt !== null)) && (
        <Input
          label={t("Prompt for these images")}
          place={`data.${index}.instance_prompt`}
          value={prompt}
          change={(value) => set(withOption(entry, "instance_prompt", value))}
        />
      )}
    </fieldset>
  );
}
