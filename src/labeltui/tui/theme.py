"""Colours: two themes of our own, and the terminal's own sixteen."""

from __future__ import annotations

from textual.theme import BUILTIN_THEMES, Theme

DARK = Theme(
    name="labeltui-dark",
    dark=True,
    background="#10141a",
    surface="#161c24",
    panel="#222b37",
    foreground="#d8dee6",
    primary="#6cb6ff",
    secondary="#5fd0c0",
    accent="#ffb454",
    success="#7fd88f",
    warning="#ffb454",
    error="#ff7b72",
    variables={
        "faint": "#8793a3",
        "rule": "#33404f",
        "cursor": "#1f3a57",
        "cursor-style": "bold",
        "rest": "#1b242f",
    },
)

LIGHT = Theme(
    name="labeltui-light",
    dark=False,
    background="#fbfaf6",
    surface="#f3f1ea",
    panel="#e6e3d8",
    foreground="#22272e",
    primary="#0a57a4",
    secondary="#0b6b61",
    accent="#8a5000",
    success="#18702f",
    warning="#8a5000",
    error="#b3261e",
    variables={
        "faint": "#646c76",
        "rule": "#c9c5b8",
        "cursor": "#cfe2f7",
        "cursor-style": "bold",
        "rest": "#ebe8df",
    },
)

TERMINAL = Theme(
    name="labeltui-terminal",
    ansi=True,
    dark=True,
    background="ansi_default",
    surface="ansi_default",
    panel="ansi_default",
    boost="ansi_default",
    foreground="ansi_default",
    primary="ansi_blue",
    secondary="ansi_cyan",
    accent="ansi_yellow",
    success="ansi_green",
    warning="ansi_yellow",
    error="ansi_red",
    variables={
        **BUILTIN_THEMES["ansi-dark"].variables,
        "faint": "ansi_default",
        "rule": "ansi_bright_black",
        "cursor": "ansi_default",
        "cursor-style": "bold reverse",
        "rest": "ansi_default",
    },
)

THEMES: tuple[Theme, ...] = (DARK, LIGHT, TERMINAL)
