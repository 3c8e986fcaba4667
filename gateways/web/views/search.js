// Searching: a box in the list, results in its place. `/` brings the cursor here.

import { summaryOf } from "../content.js";
import { shortTime } from "../format.js";
import { html, useChat, useEffect, useRef, useState } from "../html.js";
import { timeOf, titleOf } from "../inbox.js";

const WAIT_MS = 250;

export function SearchBox({ search, open, conversations }) {
  const chat = useChat();
  const [here, setHere] = useState(false);
  const timer = useRef(null);
  const query = search?.query ?? "";
  const scope = here && open ? open : undefined;

  const run = async (text, conversation_id) => {
    const answer = await chat.quietly(() => chat.api.search({ query: text, conversation_id }));
    if (chat.state.search?.query !== text) return;
    chat.dispatch({ type: "search", search: { query: text, rows: answer?.rows ?? [], done: true } });
    chat.people.learn((answer?.rows ?? []).map((row) => row.actor));
  };
  const change = (text, conversation_id = scope) => {
    clearTimeout(timer.current);
    chat.dispatch({
      type: "search",
      search: text ? { query: text, rows: search?.rows ?? [], done: false } : null,
    });
    if (text.trim()) timer.current = setTimeout(() => run(text, conversation_id), WAIT_MS);
  };
  useEffect(() => () => clearTimeout(timer.current), []);

  return html`<div class="search" role="search">
    <input id="search" type="search" value=${query} placeholder="Search messages" aria-label="Search messages"
        autocomplete="off" title="Press / to search"
      onInput=${(event) => change(event.currentTarget.value)}
          onKeyDown=${(event) => event.key === "Escape" && (change(""), event.currentTarget.blur())} />
    ${
      query &&
      open &&
      conversations[open] &&
      html`<label class="check small"><input type="checkbox" checked=${here}
      onChange=${(event) => {
        setHere(event.currentTarget.checked);
        change(query, event.currentTarget.checked ? open : undefined);
      }} /> only in this conversation</label>`
    }
  </div>`;
}

export function SearchResults({ state }) {
  const chat = useChat();
  const { rows = [], done } = state.search;
  if (rows.length === 0)
    return html`<p class="empty" aria-live="polite">${done ? "Nothing found." : "Searching…"}</p>`;
  return html`<ul class="conversations results" aria-label="Search results">
    ${rows.map(
      (row) => html`<li key=${`${row.conversation_id}:${row.seq}`}>
      <button type="button" class="conversation"
          onClick=${() => chat.quietly(() => chat.jumpTo(row.conversation_id, row.seq))}>
        <span class="stack">
          <span class="line"><bdi
              class="name">${titleOf(state.conversations[row.conversation_id], state.me.user_id) || row.conversation_id}</bdi><time>${shortTime(timeOf(row))}</time></span>
          <span class="found"><bdi>${state.users[row.actor]?.name ?? row.actor}</bdi>: <bdi>${summaryOf(row)}</bdi></span>
        </span>
      </button>
    </li>`,
    )}
  </ul>`;
}
