// The list of conversations, with who is signed in above it and search within it.

import { summaryOf } from "../content.js";
import { shortTime } from "../format.js";
import { html, Icon, memo, useChat } from "../html.js";
import { inOrder, timeOf, titleOf } from "../inbox.js";
import { Avatar, Name } from "./common.js";
import { SearchBox, SearchResults } from "./search.js";

/** Conversations drawn; the rest is found by searching. */
const DRAWN_MAX = 500;

export function Sidebar({ state }) {
  const chat = useChat();
  const rows = inOrder(state.conversations);
  return html`<nav class="sidebar" aria-label="Conversations">
    <header>
      <button type="button" class="me"
          onClick=${() => chat.dispatch({ type: "dialog", dialog: { name: "profile" } })}
          aria-label="Your profile">
        <${Avatar} id=${state.me.user_id} name=${state.me.name} />
        <span class="stack"><${Name}
            text=${state.me.name || state.me.user_id} /><small><bdi>${state.me.user_id}</bdi></small></span>
      </button>
      <button type="button" class="quiet" title="New conversation" aria-label="New conversation"
          id="new-conversation"
        onClick=${() => chat.dispatch({ type: "dialog", dialog: { name: "new" } })}><${Icon}
            name="plus" /></button>
      <button type="button" class="quiet" title="Log out" aria-label="Log out" id="log-out"
          onClick=${() => chat.logOut()}><${Icon} name="exit" /></button>
    </header>
    <${SearchBox} search=${state.search} open=${state.open} conversations=${state.conversations} />
    ${state.search?.query ? html`<${SearchResults} state=${state} />` : html`<${List} rows=${rows}
        state=${state} />`}
  </nav>`;
}

function List({ rows, state }) {
  if (!state.inboxLoaded) return html`<p class="empty">Loading…</p>`;
  if (rows.length === 0)
    return html`<p class="empty">No conversations yet.<br />Start one with the plus above.</p>`;
  return html`<ul class="conversations">
    ${rows.slice(0, DRAWN_MAX).map(
      (row) => html`<${Row} key=${row.conversation_id} row=${row} me=${state.me.user_id}
      isOpen=${state.open === row.conversation_id} online=${state.presence[row.peer?.user_id]?.online}
      who=${lastActor(row, state)} draft=${state.drafts[row.conversation_id] ?? ""}
          typing=${typistName(row, state)} />`,
    )}
  </ul>`;
}

function lastActor(row, { me, users }) {
  const actor = row.last_message?.actor;
  if (!actor || row.kind === "direct") return "";
  return actor === me.user_id ? "You" : (users[actor]?.name ?? actor);
}

function typistName(row, { typing, users }) {
  const [user] = Object.keys(typing[row.conversation_id] ?? {});
  return user ? (users[user]?.name ?? user) : "";
}

function Preview({ row, who, draft, isOpen, typing }) {
  if (typing) return html`<em><bdi>${typing}</bdi> is typing…</em>`;
  if (draft && !isOpen) return html`<em class="draft">Draft</em> <bdi>${draft}</bdi>`;
  if (!row.last_message) return row.dissolved ? "dissolved" : "";
  const prefix = row.last_message.content?.kind === "action" ? " " : ": ";
  return html`${who && html`<bdi>${who}</bdi>${prefix}`}<bdi>${summaryOf(row.last_message)}</bdi>`;
}

const Row = memo(({ row, me, isOpen, online, who, draft, typing }) => {
  const title = titleOf(row, me);
  const unread = row.unread > 0 && !row.left;
  const label = [
    title,
    unread && `${row.unread} unread`,
    row.mentions > 0 && `${row.mentions} mentions`,
    row.left && "left",
  ];
  const peer = row.kind === "direct" && row.peer?.user_id !== me;
  return html`<li>
    <a href=${`#/c/${encodeURIComponent(row.conversation_id)}`}
        class=${`conversation ${isOpen ? "open" : ""} ${unread ? "unread" : ""} ${row.left ? "left" : ""}`}
      aria-current=${isOpen ? "true" : null} aria-label=${label.filter(Boolean).join(", ")}
          data-conversation=${row.conversation_id}>
      <${Avatar} id=${row.peer?.user_id ?? row.conversation_id} name=${title}
          online=${peer ? (online ?? false) : undefined} size=${row.kind === "group" ? "square" : ""} />
      <span class="stack">
        <span class="line"><${Name} text=${title} />${row.muted && html`<span class="muted-mark"
            title="muted">muted</span>`}<time>${shortTime(timeOf(row.last_message))}</time></span>
        <span class="line"><span class="preview"><${Preview} row=${row} who=${who} draft=${draft}
            isOpen=${isOpen} typing=${typing} /></span>
          ${row.left && html`<span class="tag">left</span>`}
          ${row.mentions > 0 && !row.left && html`<span class="badge mention" title="mentions">@</span>`}
          ${unread && html`<span
              class=${`badge ${row.muted ? "soft" : ""}`}>${row.unread > 99 ? "99+" : row.unread}</span>`}
          ${row.pinned && html`<span class="pin-mark" title="pinned"><${Icon} name="pin" /></span>`}
        </span>
      </span>
    </a>
  </li>`;
});
