// The whole page: sign-in, or the list, the open conversation and what lies over them.

import { ChatContext, html, useChat, useEffect, useState } from "../html.js";
import { Conversation } from "./conversation.js";
import { OpenDialog } from "./dialogs.js";
import { Sidebar } from "./sidebar.js";
import { SignIn } from "./sign_in.js";

/** A connection that comes back within this time is not worth a word. */
const QUIET_MS = 700;

function useSeconds(until) {
  const [, draw] = useState(0);
  useEffect(() => {
    if (!until) return undefined;
    const timer = setInterval(() => draw((count) => count + 1), 500);
    return () => clearInterval(timer);
  }, [until]);
  return until ? Math.max(0, Math.ceil((until - Date.now()) / 1000)) : 0;
}

const WORDS = {
  offline: "You are offline.",
  connecting: "Connecting…",
  catching_up: "Catching up…",
  waiting: "Connection lost.",
};

/** Says how the connection is, unless it is well. */
function Banner({ connection }) {
  const chat = useChat();
  const seconds = useSeconds(connection.status === "waiting" ? connection.retry_at : null);
  const [isLate, setLate] = useState(false);
  const isWell = connection.status === "online" || connection.status === "stopped";
  useEffect(() => {
    if (isWell) return setLate(false);
    const timer = setTimeout(() => setLate(true), QUIET_MS);
    return () => clearTimeout(timer);
  }, [isWell]);
  const isShown = !isWell && isLate;
  return html`<div class=${`banner ${isShown ? "" : "hidden"}`} role="status">${
    isShown &&
    html`<span>${WORDS[connection.status]}
    ${connection.status === "waiting" && (seconds > 0 ? ` Reconnecting in ${seconds} s.` : " Reconnecting…")}</span>
    ${connection.status === "waiting" && html`<button type="button" class="link"
        onClick=${() => chat.socket.connect()}>Now</button>`}`
  }</div>`;
}

function Toasts({ toasts }) {
  const chat = useChat();
  return html`<div class="toasts" role="status" aria-live="assertive">${toasts.map(
    (toast) => html`<p key=${toast.id} class=${`toast ${toast.kind}`}><bdi>${toast.text}</bdi>
    <button type="button" class="quiet" aria-label="Dismiss"
        onClick=${() => chat.dispatch({ type: "toast_gone", id: toast.id })}>✕</button></p>`,
  )}</div>`;
}

function Nothing({ state }) {
  return html`<main
      class="main nothing"><p>${state.inboxLoaded ? "Choose a conversation, or start one." : "Loading…"}</p>
    <p class="keys"><kbd>/</kbd> search <kbd>↑</kbd> edit your last message <kbd>Esc</kbd> cancel <kbd>Shift</kbd>+<kbd>Enter</kbd> new line</p></main>`;
}

/** `/` searches from anywhere but where one writes. */
function useKeys() {
  useEffect(() => {
    const onKey = (event) => {
      const isWriting = event.target.closest?.("input, textarea, select, dialog");
      if (event.key !== "/" || isWriting || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      document.getElementById("search")?.focus();
    };
    document.addEventListener("keydown", onKey);
    return () => document.removeEventListener("keydown", onKey);
  }, []);
}

function useTitle(state) {
  const unread = Object.values(state.conversations).reduce(
    (sum, row) => sum + (row.muted || row.left ? 0 : (row.unread ?? 0)),
    0,
  );
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) Minutebook` : "Minutebook";
  }, [unread]);
}

function Desk({ state }) {
  useKeys();
  const isOpen = state.open !== null && state.conversations[state.open] !== undefined;
  return html`<${Banner} connection=${state.connection} />
    <div class=${`desk ${isOpen ? "has-open" : ""} ${isOpen && state.panel ? "has-panel" : ""}`}>
      <${Sidebar} state=${state} />
      ${isOpen ? html`<${Conversation} state=${state} />` : html`<${Nothing} state=${state} />`}
    </div>
    <${OpenDialog} state=${state} />`;
}

export function App({ chat }) {
  const [state, setState] = useState(chat.state);
  useEffect(() => chat.store.subscribe(() => setState(chat.state)), []);
  useTitle(state);
  return html`<${ChatContext.Provider} value=${chat}>
    ${state.me === null ? html`<${SignIn} />` : html`<${Desk} state=${state} />`}
    <${Toasts} toasts=${state.toasts} />
  <//>`;
}
