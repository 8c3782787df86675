"""THE table of what a person can do: it feeds the bindings, the footer, the palette, the help and
docs/keys.md.

One row is one `Action`. A screen names itself (``review``, ``sheet`` ...), answers `Context` (what holds
right now), and has one method per handler; it knows no key. Keys can be changed by action id in the
``[keys]`` section of the settings file; `Keymap` applies that and tells which wishes clash.

Defaults avoid what terminals, multiplexers and flow control keep for themselves (ctrl+a, ctrl+b, ctrl+q,
ctrl+s, and ctrl+h/i/j/m, which are other keys in disguise); where a customary key can be taken (docker holds
back ctrl+p), a second one stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from labeltui.text import safe
from labeltui.tui.requirements import (
    Requirement,
    always,
    can_train,
    choosing,
    conflict,
    deciding,
    noting,
    on_image,
    on_run,
    on_sample,
    recent,
    resumable,
    stoppable,
    suggested,
    training,
    writable,
)


class Action(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    id : str
        Stable name, used in the settings file.
    keys : tuple of str
        Default keys, the first one is shown.
    group, label : str
        Shown as "group: label" in the palette; the footer shows the label.
    description : str
        One line for help and the manual.
    screens : tuple of str
        The screens that offer it.
    handler : str
        Method of the screen, without its leading ``do_``.
    argument : int or None
        Passed to the handler.
    requires : callable
        When it is valid.
    footer : int
        Place in the footer, 0 = not in it; lower numbers survive in narrow terminals.
    prominent : tuple of str
        Screens on which it comes before all others in the footer.
    family : str
        Rows of one family are one line in help, footer and manual.
    """

    id: str
    keys: tuple[str, ...]
    group: str
    label: str
    description: str
    screens: tuple[str, ...]
    handler: str
    argument: int | None = None
    requires: Requirement = always
    footer: int = 0
    prominent: tuple[str, ...] = ()
    family: str = ""


GROUPS: Mapping[str, str] = {
    "decide": "Each decides on the sample looked at and steps to the next one.",
    "history": "Undo and redo reach across sessions.",
    "go": "Moving about.",
    "queue": "Which samples stand in the queue, and in which order.",
    "view": "Other ways to look.",
    "image": "On the screen of one large image.",
    "train": "Fine-tuning in the background.",
    "audit": "The audit as a whole.",
    "help": "Finding out.",
}
"""Groups of actions and what the manual says of them."""

REVIEW = ("review",)
LOOKING = ("review", "neighbours", "image")
ON_SAMPLES = (*LOOKING, "sheet")
LISTS = ("review", "neighbours", "sheet", "pairs", "conflicts", "bulk", "runs", "comparison")
UNDOABLE = (*ON_SAMPLES, "conflicts")
OPENED = ("neighbours", "image", "sheet", "pairs", "conflicts", "bulk", "runs", "comparison", "plots")
ALL = ("review", *OPENED)

# fmt: off
ACTIONS: tuple[Action, ...] = (
    *(
        Action(
            f"suggestion-{n}", (str(n),), "decide", f"suggested class {n}",
            "Relabel to the suggested class with this number", ON_SAMPLES, "suggestion", n, suggested(n),
            footer=1 if n == 1 else 0, family="suggested",
        )
        for n in range(1, 6)
    ),
    *(
        Action(
            f"recent-{n}", (str(n + 5),), "decide", f"class used last {n}",
            "Relabel to a class you used last", ON_SAMPLES, "recent", n, recent(n),
            footer=9 if n == 1 else 0, family="used last",
        )
        for n in range(1, 5)
    ),
    Action("keep", ("space",), "decide", "keep",
           "The given label is right", ON_SAMPLES, "keep", requires=deciding, footer=2),
    Action("class", ("slash",), "decide", "class",
           "Relabel to any class, found by typing", ON_SAMPLES, "find_class", requires=deciding, footer=3),
    Action("exclude", ("d",), "decide", "exclude",
           "The sample belongs to no class: leave it out", ON_SAMPLES, "exclude", requires=deciding, footer=6),
    Action("ambiguous", ("a",), "decide", "ambiguous",
           "Several labels are right; a second one may be named", ON_SAMPLES, "ambiguous",
           requires=deciding, footer=12),
    Action("unsure", ("z",), "decide", "unsure",
           "You cannot tell", ON_SAMPLES, "unsure", requires=deciding, footer=7),
    Action("skip", ("x",), "decide", "skip",
           "Decide later: it leaves this queue", ON_SAMPLES, "skip", requires=deciding, footer=8),
    Action("note", ("semicolon",), "decide", "note",
           "Write a note on the sample", ON_SAMPLES, "note", requires=noting, footer=18),
    Action("mark", ("v",), "decide", "mark",
           "Mark the sample for a decision in bulk, or unmark it", ("review", "sheet"), "mark", requires=noting,
           footer=15, prominent=("sheet",)),
    Action("mark-all", ("V",), "decide", "mark all",
           "Mark every undecided sample of the queue, or unmark all", ("review", "sheet"), "mark_all",
           requires=choosing),
    Action("bulk", ("b",), "decide", "bulk",
           "Decide on the marked samples or on the whole queue at once, after seeing what it would change",
           ("review", "sheet"), "bulk", requires=choosing, footer=13, prominent=("sheet",)),
    Action("confirm", ("enter",), "decide", "apply",
           "Decide on all these samples, as one step with one undo", ("bulk",), "confirm", requires=writable, footer=1),
    *(
        Action(
            f"resolve-{n}", (str(n),), "decide", f"as image {n}",
            "Give all duplicates the label of the image with this number; across splits: exclude those of other splits",
            ("conflicts",), "resolve", n, conflict,
            footer=1 if n == 1 else 0, family="as image",
        )
        for n in range(1, 10)
    ),
    Action("resolve-class", ("slash",), "decide", "another class",
           "Give all duplicates a class found by typing", ("conflicts",), "resolve_class", requires=conflict, footer=2),
    Action("resolve-exclude", ("d",), "decide", "exclude all",
           "Exclude all duplicates", ("conflicts",), "resolve_exclude", requires=conflict, footer=3),
    Action("resolve-keep", ("space",), "decide", "keep each",
           "The labels are right although they differ", ("conflicts",), "resolve_keep", requires=conflict, footer=2),
    Action("undo", ("u",), "history", "undo",
           "Undo the last decision, also one of an earlier session", UNDOABLE, "undo",
           requires=writable, footer=4),
    Action("redo", ("ctrl+r", "U"), "history", "redo",
           "Redo what was undone", UNDOABLE, "redo", requires=writable, footer=21),
    Action("down", ("down", "j"), "go", "down", "Next row", LISTS, "down"),
    Action("up", ("up", "k"), "go", "up", "Previous row", LISTS, "up"),
    Action("page-down", ("pagedown", "ctrl+f"), "go", "page down", "Page down", LISTS, "page_down"),
    Action("page-up", ("pageup", "ctrl+y"), "go", "page up", "Page up", LISTS, "page_up"),
    Action("top", ("home",), "go", "first", "First row", LISTS, "top"),
    Action("bottom", ("end", "G"), "go", "last", "Last row", LISTS, "bottom"),
    Action("next-pane", ("tab", "right", "l"), "go", "next pane",
           "Go to the pane to the right", REVIEW, "next_pane", footer=20),
    Action("previous-pane", ("shift+tab", "left", "h"), "go", "previous pane",
           "Go to the pane to the left", REVIEW, "previous_pane"),
    Action("right", ("right", "l"), "go", "right", "Next image", ("sheet",), "right"),
    Action("left", ("left", "h"), "go", "left", "Image before", ("sheet",), "left"),
    Action("open", ("enter",), "go", "open",
           "Open the class's queue, the image, or the pair's queue",
           ("review", "neighbours", "sheet", "pairs", "conflicts"), "open", footer=11),
    Action("back", ("escape",), "go", "back", "Back to where you came from", ALL, "back", footer=19),
    Action("jump", ("apostrophe", "ctrl+o"), "go", "jump",
           "Show a letter on each pane and each list row; the next key goes there", REVIEW, "jump"),
    Action("next-class", ("right_square_bracket",), "go", "next class",
           "Queue of the next class in the list", REVIEW, "next_class"),
    Action("previous-class", ("left_square_bracket",), "go", "previous class",
           "Queue of the class before in the list", REVIEW, "previous_class"),
    Action("next-sample", ("right_square_bracket", "tab"), "go", "next sample",
           "The queue's next sample", ("image",), "next_sample", footer=10),
    Action("previous-sample", ("left_square_bracket", "shift+tab"), "go", "sample before",
           "The queue's sample before", ("image",), "previous_sample"),
    Action("filter", ("f",), "queue", "filter",
           "Show only some: classes, label score, path, split, decisions, or one detector's score",
           REVIEW, "filter", footer=16),
    Action("clear-filters", ("F",), "queue", "clear filters",
           "Show all undecided flags of the class again", REVIEW, "clear_filters"),
    Action("views", ("w",), "queue", "views",
           "Open a saved view (filters and order), or save the queue as one", REVIEW, "views"),
    Action("order", ("o",), "queue", "order",
           "Lowest label score, most uncertain, largest expected overlap reduction, random, or the source's order",
           REVIEW, "order", footer=17),
    Action("sort", ("s",), "queue", "sort classes",
           "Order the classes by another column", REVIEW, "sort"),
    Action("checks", ("m",), "queue", "random checks",
           "Review 50 random samples instead of flags, to know how many labels are wrong; again for the flags",
           REVIEW, "checks", requires=writable),
    Action("noise-budget", ("N",), "queue", "noise budget",
           "How noisy the labels are, what the next reviews are worth, when to stop, and what training should do",
           REVIEW, "noise_budget"),
    Action("neighbours", ("n",), "view", "neighbours",
           "The nearest samples of the given and of the suggested class, side by side", REVIEW, "neighbours",
           requires=on_sample, footer=10),
    Action("sheet", ("g",), "view", "contact sheet",
           "The queue as a grid of small images", REVIEW, "sheet", requires=on_image, footer=14),
    Action("pairs", ("p",), "view", "class pairs",
           "Which classes overlap: a map and a ranked list", REVIEW, "pairs", footer=14),
    Action("conflicts", ("c",), "view", "label conflicts",
           "Duplicates of one image whose labels disagree", REVIEW, "conflicts"),
    Action("across-splits", ("o",), "view", "labels or splits",
           "Duplicates whose labels disagree, or duplicates in several splits, such as train and test",
           ("conflicts",), "across_splits", footer=4),
    Action("plots", ("P",), "view", "plots",
           "A map of the samples, the reliability diagram, and learning curves, as plots", REVIEW, "plots"),
    Action("plot-map", ("1",), "view", "map",
           "Samples in the plane by their embedding: all, or those of a class among the classes most like it",
           ("plots",), "plot_map", footer=1),
    Action("plot-reliability", ("2",), "view", "reliability",
           "The stated probability that a label is right, against the fraction that people found right",
           ("plots",), "plot_reliability", footer=2),
    Action("plot-accuracy", ("3",), "view", "accuracy",
           "A training run's accuracy on held-out samples, epoch by epoch", ("plots",), "plot_accuracy", footer=3),
    Action("plot-loss", ("4",), "view", "loss",
           "A training run's loss, epoch by epoch", ("plots",), "plot_loss", footer=4),
    Action("plot-next", ("right_square_bracket", "right", "l"), "view", "next class or run",
           "Plot the next class of the list, or an older run", ("plots",), "plot_next", footer=6),
    Action("plot-previous", ("left_square_bracket", "left", "h"), "view", "class or run before",
           "Plot the class before in the list, or a newer run", ("plots",), "plot_previous"),
    Action("swap", ("r",), "view", "other direction",
           "Look at the pair the other way round", ("pairs",), "swap", footer=2),
    Action("by", ("o",), "view", "order",
           "By overlap, or by the proportion of neighbours in one direction", ("pairs",), "by", footer=3),
    Action("find", ("slash",), "view", "find",
           "Find a pair by typing", ("pairs",), "find", footer=4),
    Action("large", ("plus", "equals_sign"), "view", "large image",
           "The image alone, as large as it can be", ("review", "neighbours"), "large", requires=on_image),
    Action("scaling", ("S",), "view", "smooth or pixels",
           "Enlarge small images smoothly, or show each of their pixels as a square",
           (*ON_SAMPLES, "conflicts"), "scaling"),
    Action("source", (), "view", "where the images are",
           "Name the directory of the images, if they were moved since the scan", REVIEW, "source"),
    Action("zoom-in", ("plus", "equals_sign"), "image", "zoom in", "Larger", ("image",), "zoom_in", footer=5),
    Action("zoom-out", ("minus",), "image", "zoom out", "Smaller", ("image",), "zoom_out", footer=5),
    Action("zoom-fit", ("0",), "image", "fit", "The whole image", ("image",), "zoom_fit", footer=5),
    Action("pan-left", ("left", "h"), "image", "pan left", "Move the view left", ("image",), "pan_left"),
    Action("pan-right", ("right", "l"), "image", "pan right", "Move the view right", ("image",), "pan_right"),
    Action("pan-up", ("up", "k"), "image", "pan up", "Move the view up", ("image",), "pan_up"),
    Action("pan-down", ("down", "j"), "image", "pan down", "Move the view down", ("image",), "pan_down"),
    Action("train", ("t",), "train", "train",
           "Fine-tune in the background on the current labels and re-rank the queue", REVIEW, "train",
           requires=can_train, footer=22),
    Action("cancel-training", ("T",), "train", "cancel training", "Stop the training run that is active", REVIEW,
           "cancel_training", requires=training),
    Action("runs", ("r",), "train", "runs",
           "All training runs: learning curves, which can be resumed, and comparisons", REVIEW, "runs",
           footer=22),
    Action("mark-run", ("v", "space"), "train", "mark",
           "Mark the run for a comparison, or unmark it", ("runs",), "mark", requires=on_run, footer=2),
    Action("mark-runs", ("V",), "train", "mark all",
           "Mark every run that is done, or unmark all", ("runs",), "mark_all", requires=on_run, footer=5),
    Action("compare", ("enter",), "train", "compare",
           "Put the marked runs (or this one) side by side: on given, current and reference labels, paired over seeds",
           ("runs",), "compare", requires=on_run, footer=1),
    Action("plot-run", ("P",), "train", "plot",
           "The run's accuracy and loss, epoch by epoch, as plots", ("runs",), "plot", requires=on_run, footer=6),
    Action("resume-run", ("t",), "train", "resume",
           "Resume a run that was lost, paused, cancelled or failed, from its last checkpoint", ("runs",),
           "resume", requires=resumable, footer=3),
    Action("cancel-run", ("T",), "train", "cancel", "Stop this run; it can be resumed", ("runs",), "cancel",
           requires=stoppable, footer=4),
    Action("measure", ("o",), "train", "measure",
           "Compare by accuracy, balanced accuracy, macro F1, or calibration error", ("comparison",), "measure",
           footer=1),
    Action("reference", ("slash",), "train", "reference",
           "Name a column of reference labels to measure against: TABLE:COLUMN", ("comparison",), "reference",
           footer=2),
    Action("export", ("e",), "audit", "export",
           "Write the corrected labels to a CSV file", REVIEW, "export", footer=23),
    Action("help", ("question_mark", "f1"), "help", "help",
           "Keys of this screen and what its words mean, searchable", ALL, "help", footer=5),
    Action("palette", ("colon", "ctrl+p"), "help", "palette",
           "Everything you can do now, found by typing", ALL, "palette", footer=24),
    Action("theme", (), "help", "theme",
           "Theme: dark, light, or the terminal's own colours, with preview", REVIEW, "theme"),
    Action("redraw", ("ctrl+l",), "help", "redraw",
           "Redraw the screen, after something else wrote on it", ALL, "redraw"),
    Action("quit", ("q", "ctrl+c"), "audit", "quit",
           "Leave; every decision is already saved", ALL, "quit", footer=25),
)
# fmt: on

BY_ID: Mapping[str, Action] = {action.id: action for action in ACTIONS}

_GLYPHS = {
    "space": "space", "slash": "/", "semicolon": ";", "colon": ":", "question_mark": "?", "enter": "⏎",
    "escape": "esc", "tab": "tab", "shift+tab": "⇧tab", "right_square_bracket": "]", "left_square_bracket":
    "[", "up": "↑", "down": "↓", "left": "←", "right": "→", "pagedown": "pgdn", "pageup": "pgup", "plus":
    "+", "minus": "-", "equals_sign": "=", "full_stop": ".", "comma": ",", "apostrophe": "'", "asterisk":
    "*", "less_than_sign": "<", "greater_than_sign": ">", "underscore": "_", "number_sign": "#",
    "exclamation_mark": "!", "at": "@", "dollar_sign": "$", "tilde": "~",
}  # fmt: skip


def show_key(key: str) -> str:
    """Return a key as people write it: ``slash`` becomes ``/``."""
    if key in _GLYPHS:
        return _GLYPHS[key]
    return key.replace("ctrl+", "^")


class Keymap:
    """Which keys start which action, after a person's wishes.

    Parameters
    ----------
    wishes : mapping of str to sequence of str, optional
        Action id to keys, as in the ``[keys]`` section of the settings file. A wished key is taken away from
        the action that has it by default; two wishes for one key on the same screen clash, and the first one
        wins.

    Attributes
    ----------
    problems : list of str
        Unknown ids and clashes, for the person.
    """

    def __init__(self, wishes: Mapping[str, Sequence[str]] | None = None) -> None:
        self.problems: list[str] = []
        self._keys: dict[str, tuple[str, ...]] = {}
        wished: dict[str, tuple[str, ...]] = {}
        for id_, keys in (wishes or {}).items():
            if id_ in BY_ID:
                wished[id_] = tuple(_long_name(key) for key in keys)
            else:
                close = get_close_matches(id_, BY_ID, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                self.problems.append(f"keys: there is no action {safe(id_)}{hint}")
        taken: dict[tuple[str, str], Action] = {}
        for action in sorted(ACTIONS, key=lambda row: row.id not in wished):
            free = []
            for key in wished.get(action.id, action.keys):
                holders = [taken[screen, key] for screen in action.screens if (screen, key) in taken]
                if holders:
                    self._clash(action, key, holders[0], action.id in wished)
                    continue
                free.append(key)
                for screen in action.screens:
                    taken[screen, key] = action
            self._keys[action.id] = tuple(free)
        self._by_key = taken

    def _clash(self, action: Action, key: str, holder: Action, wished: bool) -> None:
        shown = show_key(key)
        if wished:
            self.problems.append(
                f"keys: {shown} is wished for {holder.id} and {action.id}; {holder.id} has it"
            )
        elif len(action.keys) == 1:
            self.problems.append(f"keys: {shown} now means {holder.id}; {action.id} has no key left")

    def keys(self, id_: str) -> tuple[str, ...]:
        """Return the keys of an action, in Textual's names; the first one is shown."""
        return self._keys[id_]

    def shown(self, action: Action) -> str:
        """Return the key as shown in footers; for the first row of a family its range, such as ``1-5``."""
        rows = [row for row in ACTIONS if row.family and row.family == action.family] or [action]
        first = [show_key(self._keys[row.id][0]) for row in rows if self._keys[row.id]]
        if len(first) > 2 and "".join(first) in "123456789":
            return f"{first[0]}-{first[-1]}"
        return " ".join(first)

    def shown_alone(self, action: Action) -> str:
        """Return an action's own key as shown, empty when it has none."""
        keys = self._keys[action.id]
        return show_key(keys[0]) if keys else ""

    def hint(self, id_: str) -> str:
        """Return an action's key for a sentence, such as ``[u]``; the palette's key and its name if it has none."""
        key = self.shown_alone(BY_ID[id_])
        return f"[{key}]" if key else f"{self.hint('palette')} {BY_ID[id_].label}"

    def action(self, screen: str, key: str) -> Action | None:
        """Return the action of a key on a screen.

        Parameters
        ----------
        screen : str
        key : str
            Textual's name.

        Returns
        -------
        Action or None
        """
        return self._by_key.get((screen, key))


def _long_name(key: str) -> str:
    from textual.keys import _character_to_key

    return _character_to_key(key) if len(key) == 1 else key


def of_screen(screen: str) -> list[Action]:
    """Return the actions that a screen offers, in the table's order."""
    return [action for action in ACTIONS if screen in action.screens]


def collapsed(actions: Iterable[Action]) -> list[Action]:
    """Return the first row of each family and every row without one."""
    seen: set[str] = set()
    rows = []
    for action in actions:
        if action.family and action.family in seen:
            continue
        seen.add(action.family)
        rows.append(action)
    return rows


def manual() -> str:
    """Return docs/keys.md."""
    keymap = Keymap()
    lines = [
        "# Keys",
        "",
        "This page is made from the table in `src/labeltui/tui/actions.py`:",
        "`python -m labeltui.tui.actions > docs/keys.md`.",
        "",
        "Any key can be changed in the `[keys]` section of the settings file, by the action's id:",
        "",
        "```toml",
        "[keys]",
        'keep = ["space", "y"]',
        'unsure = "w"',
        "```",
        "",
        "A key that you give to one action is taken from the action that has it by default. If two wishes clash, the",
        "first one wins and the status line says so. An action that is not possible at the moment says why.",
    ]
    for group, words in GROUPS.items():
        rows = [action for action in ACTIONS if action.group == group]
        lines += [
            "",
            f"## {group}",
            "",
            words,
            "",
            "| keys | id | what it does | where |",
            "|---|---|---|---|",
        ]
        for action in rows:
            keys = " ".join(f"`{show_key(key)}`" for key in keymap.keys(action.id)) or "palette only"
            keys = keys.replace("|", "\\|")
            lines.append(f"| {keys} | `{action.id}` | {action.description} | {', '.join(action.screens)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(manual(), end="")
