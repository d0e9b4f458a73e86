"""Reads data sets and says what would leave: the manifest (SPEC K2, K3, K4). Pure reading.

A link is never followed: one that points inside names a file that is there anyway, one that points outside is what
must not leave, and an archive that holds no link cannot be made to hold another file by swapping one.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from simpletuner_lab.core.errors import InvalidDataset, Problem
from simpletuner_lab.core.manifest import DatasetManifest, FileEntry, Manifest, Withheld
from simpletuner_lab.core.withhold import (
    HIDDEN,
    NOT_NEEDED,
    Role,
    name_rule,
    need_rule,
    portable_rule,
    same_name_key,
    shown_name,
    stem_of,
    suffix_of,
)
from simpletuner_lab.services.inspection import FileFacts, inspect, open_beneath, open_folder
from simpletuner_lab.services.roots import usable_root
from simpletuner_lab.services.rows import FileStamp
from simpletuner_trainer.spec import IMAGE_SUFFIXES, METADATA_NAME, DatasetConfig, parse_metadata_jsonl

_SETTLED_NS: Final = 2_000_000_000
"""A file changed more recently could change again within the resolution of its time, and look the same."""
_THREADS: Final = 4
_LARGE_BYTES: Final = 1 << 17
"""From here on reading, hashing and decoding, which need no interpreter, are most of a look into a file; threads that look
into small ones wait for each other instead (three times as long for 20,000 of 1 KiB)."""

ScanProgress = Callable[[str, int, int, int], None]
"""Called with (stage, files done, files in all, bytes done); may raise to stop the scan."""


class HashCache(Protocol):
    """What is remembered of files by path, size, times and inode: short texts, opaque to the cache."""

    def lookup_many(self, stamps: Sequence[FileStamp], /) -> Mapping[str, str]:
        """Texts by path, of those files whose stamp is the one they were stored with."""

    def store_many(self, hashed: Mapping[FileStamp, str], /, *, now: float) -> None:
        """Remembers texts; `now` in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A file that training would read."""

    parts: tuple[str, ...]
    stem: str
    """`stem_of` its parts."""
    role: Role
    stamp: FileStamp

    @property
    def name(self) -> str:
        """Its path in the data set."""
        return "/".join(self.parts)


@dataclass(slots=True)
class _Listing:
    """One data set, listed and not yet looked into."""

    dataset: DatasetConfig
    root: str
    strip_exif: bool = False
    candidates: list[_Candidate] = field(default_factory=list)
    withheld: list[Withheld] = field(default_factory=list)

    def withhold(
        self, parts: Sequence[str], reason: str, *, folder: bool = False, secret: bool = False, wanted: bool = False
    ) -> None:
        name = shown_name((self.dataset.id, *parts)) + ("/" if folder else "")
        self.withheld.append(Withheld(name=name, reason=reason, secret=secret, wanted=wanted))


def scan(
    datasets: Sequence[DatasetConfig],
    *,
    hashes: HashCache,
    strip_exif: bool = False,
    progress: ScanProgress = lambda _stage, _done, _total, _bytes: None,
    home: Path | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> Manifest:
    """What would leave of these data sets, and what stays here with its reason.

    `strip_exif` takes out what pictures tell beside their pixels; one of which it cannot be taken stays here.
    `home` is the home folder that is refused as a root, by default the user's own.

    Raises:
        InvalidDataset: every data set that is refused, missing, unreadable or without images, each as a problem.
    """
    roots = _usable_roots(datasets, Path.home() if home is None else home)
    pairs = zip(datasets, roots, strict=True)
    listings = [_listed(_Listing(dataset, root, strip_exif), progress) for dataset, root in pairs]
    facts = _inspect_all(listings, hashes, progress, now_ns)
    manifests, problems = [], []
    for listing in listings:
        try:
            manifests.append(_judged(listing, facts))
        except InvalidDataset as error:
            problems.append(_problem(listing.dataset, error))
    _raise_if(problems)
    return Manifest(datasets=tuple(manifests))


def _usable_roots(datasets: Sequence[DatasetConfig], home: Path) -> list[str]:
    roots, problems = [], []
    ids = Counter(dataset.id.casefold() for dataset in datasets)
    for dataset in datasets:
        if ids[dataset.id.casefold()] > 1:
            path = f"dataloader.{dataset.id}.id"
            problems.append(Problem(path=path, message="another data set has this id", hint="ids differ beyond case"))
        try:
            roots.append(usable_root(dataset.instance_data_dir, home))
        except InvalidDataset as error:
            problems.append(_problem(dataset, error))
    _raise_if(problems)
    return roots


def _problem(dataset: DatasetConfig, error: InvalidDataset) -> Problem:
    return Problem(path=f"dataloader.{dataset.id}.instance_data_dir", message=error.message, hint=error.hint)


def _raise_if(problems: Sequence[Problem]) -> None:
    if problems:
        first, more = problems[0], f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InvalidDataset(f"{first.path}: {first.message}{more}", hint=first.hint, problems=problems)


# ------------------------------------------------------------------------------------------------------------- listing


def _listed(listing: _Listing, progress: ScanProgress) -> _Listing:
    """Everything below its root, without a look into any file: candidates, and what stays by its name or kind."""
    files: list[tuple[tuple[str, ...], os.DirEntry[str]]] = []
    folders: list[tuple[str, ...]] = [()]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(listing.root, *folder)) as entries:  # noqa: PTH118  (bytes that are no UTF-8 pass)
                for entry in entries:
                    _sort_entry(listing, (*folder, entry.name), entry, files, folders)
        except OSError as error:
            listing.withhold(folder, f"cannot be read: {error.strerror}", folder=True, wanted=True)
        progress("listing", len(files), 0, 0)
    _pick(listing, files)
    return listing


def _sort_entry(
    listing: _Listing,
    parts: tuple[str, ...],
    entry: os.DirEntry[str],
    files: list[tuple[tuple[str, ...], os.DirEntry[str]]],
    folders: list[tuple[str, ...]],
) -> None:
    is_folder = entry.is_dir(follow_symlinks=False)
    if reason := name_rule(parts[-1:], folder=is_folder):  # those above it have been judged, or it would not be seen
        listing.withhold(parts, reason, folder=is_folder, secret=True)
    elif entry.is_symlink():
        listing.withhold(parts, _link_reason(listing.root, entry), wanted=_looks_wanted(parts))
    elif entry.name.startswith("."):
        listing.withhold(parts, HIDDEN, folder=is_folder)
    elif is_folder:
        folders.append(parts)
    elif entry.is_file(follow_symlinks=False):
        files.append((parts, entry))
    else:
        listing.withhold(parts, f"a {_kind(entry)}, not a file", wanted=_looks_wanted(parts))


def _link_reason(root: str, entry: os.DirEntry[str]) -> str:
    target = os.path.realpath(entry.path)
    if not os.path.lexists(target):
        return "a link to nothing"
    if os.path.commonpath([root, target]) == root:
        return "a link: its target is in the data set under its own name"
    return "a link that leaves the data set"


def _kind(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    kinds = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "special file")


def _looks_wanted(parts: Sequence[str]) -> bool:
    return suffix_of(parts).lower() in IMAGE_SUFFIXES


def _pick(listing: _Listing, files: Sequence[tuple[tuple[str, ...], os.DirEntry[str]]]) -> None:
    strategy = "" if listing.dataset.only_instance_prompt else listing.dataset.caption_strategy
    stems = {stem_of(parts) for parts, _ in files if _looks_wanted(parts)}
    for parts, entry in files:
        role = need_rule(parts, strategy=strategy, stems=stems)
        if role is None:
            listing.withhold(parts, NOT_NEEDED)
        elif reason := portable_rule(parts):
            listing.withhold(parts, reason, wanted=True)
        else:
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError as error:
                listing.withhold(parts, f"cannot be read: {error.strerror}", wanted=True)
                continue
            stamp = FileStamp(
                entry.path, size=seen.st_size, mtime_ns=seen.st_mtime_ns, ctime_ns=seen.st_ctime_ns, inode=entry.inode()
            )
            listing.candidates.append(_Candidate(parts, stem_of(parts), role, stamp))
    listing.candidates.sort(key=lambda candidate: candidate.name.encode())


# ---------------------------------------------------------------------------------------------------------- inspection


def _inspect_all(
    listings: Sequence[_Listing], hashes: HashCache, progress: ScanProgress, now_ns: Callable[[], int]
) -> dict[str, FileFacts]:
    """Facts by path, of every candidate: remembered ones, and for the rest one look into each file."""
    started_ns = now_ns()
    stamps = [candidate.stamp for listing in listings for candidate in listing.candidates]
    stripped = {c.stamp.path for one in listings if one.strip_exif for c in one.candidates if c.role is Role.IMAGE}
    remembered = hashes.lookup_many([stamp for stamp in stamps if _settled(stamp, started_ns)])
    facts = {
        path: known
        for path, text in remembered.items()
        if (known := FileFacts.parse(text)) is not None and (known.tells_stripped or path not in stripped)
    }
    done = len({stamp.path for stamp in stamps} & facts.keys())
    size = sum(stamp.size for stamp in stamps if stamp.path in facts)
    progress("scanning", done, len(stamps), size)
    fresh: dict[FileStamp, str] = {}
    try:
        for candidate, found in _look(listings, facts):
            done, size = done + 1, size + candidate.stamp.size
            facts[candidate.stamp.path] = found
            if found.sha256 and _settled(candidate.stamp, started_ns):
                fresh[candidate.stamp] = found.text
            progress("scanning", done, len(stamps), size)
    finally:  # also of a scan that was stopped: the next one goes on from there
        hashes.store_many(fresh, now=started_ns / 1e9)
    return facts


def _settled(stamp: FileStamp, now_ns: int) -> bool:
    return max(stamp.mtime_ns, stamp.ctime_ns) < now_ns - _SETTLED_NS


def _look(listings: Sequence[_Listing], known: Mapping[str, FileFacts]) -> Iterator[tuple[_Candidate, FileFacts]]:
    with contextlib.ExitStack() as stack:
        roots = [open_folder(listing.root) for listing in listings]
        for root in roots:
            stack.callback(os.close, root)
        unknown = [
            (root, candidate, listing.strip_exif)
            for root, listing in zip(roots, listings, strict=True)
            for candidate in listing.candidates
            if candidate.stamp.path not in known
        ]
        for one in unknown:
            if one[1].stamp.size < _LARGE_BYTES:
                yield one[1], _facts_of(*one)
        pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="scan")
        stack.callback(pool.shutdown, cancel_futures=True)  # runs first: no thread is left when the roots are closed
        pending = [(one[1], pool.submit(_facts_of, *one)) for one in unknown if one[1].stamp.size >= _LARGE_BYTES]
        for candidate, future in pending:
            yield candidate, future.result()


def _facts_of(root: int, candidate: _Candidate, strip_exif: bool) -> FileFacts:
    try:
        return inspect(root, candidate.parts, candidate.role, strip_exif=strip_exif)
    except OSError as error:
        return FileFacts("", f"cannot be read: {error.strerror}")


# ------------------------------------------------------------------------------------------------------------ judgment


def _judged(listing: _Listing, facts: Mapping[str, FileFacts]) -> DatasetManifest:
    names: set[str] = set()
    leaving: list[_Candidate] = []
    for candidate in listing.candidates:
        known = facts[candidate.stamp.path]
        problem = known.problem or (known.strip_problem if listing.strip_exif else "")
        key = same_name_key(candidate.name)
        if problem:
            listing.withhold(candidate.parts, problem, secret=known.secret, wanted=True)
        elif key in names:
            listing.withhold(
                candidate.parts, "another file's name differs only in case or accents: rename it", wanted=True
            )
        else:
            names.add(key)
            leaving.append(candidate)
    images = [candidate for candidate in leaving if candidate.role is Role.IMAGE]
    stems = {image.stem for image in images}
    for candidate in leaving:
        if candidate.role is Role.CAPTION and candidate.stem not in stems:
            listing.withhold(candidate.parts, f"{NOT_NEEDED}: its image stays here")
    files = [c for c in leaving if c.role is not Role.CAPTION or c.stem in stems]
    if not images:
        raise InvalidDataset(
            f"{listing.root} has no image that could be sent{_why(listing)}", hint=_empty_hint(listing)
        )
    missing = _captions_missing(listing, images, files, facts)
    return DatasetManifest(
        id=listing.dataset.id,
        root=listing.root,
        files=tuple(_entry(listing, candidate, facts) for candidate in files),
        withheld=tuple(sorted(listing.withheld, key=lambda entry: entry.name.encode())),
        images=len(images),
        captions_found=len(images) - len(missing),
        captions_missing=missing,
        with_gps=sum(facts[image.stamp.path].gps for image in images),
        strip_exif=listing.strip_exif,
    )


def _entry(listing: _Listing, candidate: _Candidate, facts: Mapping[str, FileFacts]) -> FileEntry:
    name, known = f"{listing.dataset.id}/{candidate.name}", facts[candidate.stamp.path]
    if listing.strip_exif and candidate.role is Role.IMAGE:
        return FileEntry(name=name, bytes=known.stripped_bytes, sha256=known.stripped_sha256)
    return FileEntry(name=name, bytes=candidate.stamp.size, sha256=known.sha256)


def _why(listing: _Listing) -> str:
    wanted = [entry for entry in listing.withheld if entry.wanted]
    return f" ({wanted[0].name}: {wanted[0].reason})" if wanted else ""


def _empty_hint(listing: _Listing) -> str:
    if any("link that leaves" in entry.reason for entry in listing.withheld):
        return "links are not followed: copy the images into the folder (cp -rL)"
    return f"it needs at least one sound image: {', '.join(sorted(IMAGE_SUFFIXES))}"


def _captions_missing(
    listing: _Listing, images: Sequence[_Candidate], files: Sequence[_Candidate], facts: Mapping[str, FileFacts]
) -> tuple[str, ...]:
    """Names of the images without a caption of their own, where the strategy looks for one."""
    strategy = listing.dataset.caption_strategy
    if listing.dataset.only_instance_prompt or strategy not in ("textfile", "metadata"):
        return ()
    if strategy == "metadata":
        captioned = _metadata_names(listing, files)
        without = [image for image in images if image.name not in captioned]
    else:
        captions = [file for file in files if file.role is Role.CAPTION and not facts[file.stamp.path].blank]
        stems = {caption.stem for caption in captions}
        without = [image for image in images if image.stem not in stems]
    return tuple(f"{listing.dataset.id}/{image.name}" for image in without)


def _metadata_names(listing: _Listing, files: Sequence[_Candidate]) -> frozenset[str]:
    if not any(file.role is Role.METADATA for file in files):
        raise InvalidDataset(f"{listing.root} has no {METADATA_NAME} that could be sent{_why(listing)}")
    root = open_folder(listing.root)
    try:
        with open_beneath(root, (METADATA_NAME,)) as file:
            texts = parse_metadata_jsonl(file.read().decode("utf-8-sig"))
            return frozenset(name for name, captions in texts.items() if any(map(str.strip, captions)))
    except (OSError, ValueError) as error:
        raise InvalidDataset(f"{METADATA_NAME} cannot be read: {error}") from error
    finally:
        os.close(root)
