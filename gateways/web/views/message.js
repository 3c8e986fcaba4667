// One message: its author, words, reactions, and what can be done with it.

import { cardOf, summaryOf, typedOf } from "../content.js";
import { clockTime, fullTime } from "../format.js";
import { html, Icon, memo, useChat, useState } from "../html.js";
import { timeOf } from "../inbox.js";
import { pieces } from "../text.js";
import { Avatar, classes, Name } from "./common.js";

const EMOJI = ["👍", "❤️", "😂", "🎉", "😮", "😢", "🙏", "👀"];

/** Message text with links and mentions; everything in it is text or an attribute. */
export function Words({ text, mentions = [], me, nameOf }) {
  const isMeant = (user) => (user === "all" ? mentions.includes("all") : mentions.includes(user));
  return html`<bdi class="words" dir="auto">${pieces(text, isMeant).map((piece) => {
    if (piece.type === "link")
      return html`<a href=${piece.href} target="_blank" rel="noopener noreferrer nofollow">${piece.text}</a>`;
    if (piece.type === "mention") {
      const isMe = piece.user_id === me || piece.user_id === "all";
      return html`<span class=${`mention ${isMe ? "mine" : ""}`}
          title=${nameOf(piece.user_id)}>${piece.text}</span>`;
    }
    return piece.text;
  })}</bdi>`;
}

function Content({ row, me, nameOf, author }) {
  if (row.recalled || row.content === null) return html`<p class="recalled">This message was recalled.</p>`;
  const { kind, text } = row.content;
  if (kind === "text")
    return html`<p class="text"><${Words} text=${text} mentions=${row.mentions} me=${me}
        nameOf=${nameOf} /></p>`;
  if (kind === "action") {
    return html`<p class="text action"><${Name} text=${author} /> <${Words} text=${text}
        mentions=${row.mentions} me=${me} nameOf=${nameOf} /></p>`;
  }
  if (kind === "emoji") return html`<p class="text large"><bdi>${row.content.code}</bdi></p>`;
  const { label, body } = cardOf(row.content);
  return html`<div class="card"><span class="card-label"><bdi>${label}</bdi></span><bdi class="words"
      dir="auto">${body}</bdi></div>`;
}

function Quote({ id, target, seq, nameOf }) {
  const chat = useChat();
  const summary = target ? summaryOf(target) : "an earlier message";
  return html`<button type="button" class="quote" onClick=${() => chat.quietly(() => chat.jumpTo(id, seq))}
      title="Show the message answered to">
    ${target && html`<${Name} text=${nameOf(target.actor)} />`}<bdi>${summary}</bdi>
  </button>`;
}

function Reactions({ id, row, nameOf, canAct }) {
  const chat = useChat();
  if (!row.reactions?.length) return null;
  return html`<div class="reactions">${row.reactions.map((reaction) => {
    const names =
      reaction.users.map(nameOf).join(", ") + (reaction.count > reaction.users.length ? " and others" : "");
    return html`<button type="button" key=${reaction.emoji} class=${`reaction ${reaction.mine ? "mine" : ""}`}
        aria-pressed=${reaction.mine} disabled=${!canAct}
      title=${names} aria-label=${`${reaction.emoji}, ${reaction.count}: ${names}`}
          onClick=${() => chat.react(id, row, reaction.emoji)}>
      <bdi>${reaction.emoji}</bdi><span>${reaction.count}</span></button>`;
  })}</div>`;
}

function Tools({ id, row, mine, isOfficer, mayPin }) {
  const chat = useChat();
  const [picking, setPicking] = useState(false);
  const tool = (icon, label, run) =>
    html`<button type="button" class="quiet" title=${label} aria-label=${label} onClick=${run}><${Icon}
        name=${icon} /></button>`;
  const focusComposer = () => document.getElementById("composer")?.focus();
  const react = (emoji) => {
    setPicking(false);
    chat.react(id, row, emoji);
  };
  const leave = (event) => event.currentTarget.contains(event.relatedTarget) || setPicking(false);
  return html`<div class="tools" role="toolbar" aria-label="Message actions" onFocusOut=${leave}
      onKeyDown=${(event) => event.key === "Escape" && setPicking(false)}>
    ${
      picking &&
      html`<div class="picker" role="group" aria-label="Choose a reaction">
      ${EMOJI.map((emoji) => html`<button type="button" key=${emoji} class="quiet"
          aria-label=${`React with ${emoji}`} onClick=${() => react(emoji)}>${emoji}</button>`)}</div>`
    }
    ${tool("smile", "React", () => setPicking(!picking))}
    ${tool("reply", "Reply", () => {
      chat.dispatch({ type: "reply_to", id, seq: row.seq });
      focusComposer();
    })}
    ${
      mine &&
      typedOf(row.content) !== null &&
      tool("edit", "Edit", () => {
        chat.edit(id, row);
        focusComposer();
      })
    }
    ${mayPin && tool("pin", row.pinned ? "Unpin" : "Pin", () => chat.pin(id, row))}
    ${(mine || isOfficer) && tool("recall", "Recall", () => chat.recall(id, row))}
  </div>`;
}

function Marks({ id, row }) {
  const chat = useChat();
  const showEdits = () => chat.dispatch({ type: "dialog", dialog: { name: "edits", id, seq: row.seq } });
  return html`${row.edited_at && !row.recalled && html`<button type="button" class="edited"
      title=${`edited ${fullTime(row.edited_at)}`} onClick=${showEdits}>edited</button>`}
    ${row.pinned && html`<span class="pinned-mark" title="pinned"><${Icon} name="pin" /></span>`}
    ${row.origin && html`<span class="origin" title=${`imported ${fullTime(row.at)}`}>imported</span>`}`;
}

/**
 * A row of the timeline. `grouped`: it follows another one by the same person, so the head is left out.
 * `canAct`: the reader is a member; `isOfficer`: may recall what others wrote; `nameOf` is
 * a new function when a name changed.
 */
export const Message = memo(
  ({ id, row, me, grouped, target, nameOf, online, canAct, isOfficer, mayPin, isFocused, readBy }) => {
    const mine = row.actor === me;
    const author = nameOf(row.actor);
    const isMeant = row.mentions?.includes(me) || row.mentions?.includes("all");
    const at = timeOf(row);
    const isAction = row.content?.kind === "action";
    const isBare = grouped && !row.reply_to;
    return html`<article id=${`m-${row.seq}`} data-seq=${row.seq} tabindex="-1"
        aria-label=${`${author}, ${clockTime(at)}`}
        class=${classes({ message: true, grouped: isBare, acted: isAction, meant: isMeant, focused: isFocused, own: mine })}>
    <div class="margin">${
      isBare || isAction
        ? html`<time datetime=${at} title=${fullTime(at)}>${clockTime(at)}</time>`
        : html`<${Avatar} id=${row.actor} name=${author} online=${online} />`
    }</div>
    <div class="body">
      ${!isBare && !isAction && html`<header><${Name} text=${author} /><time datetime=${at}
          title=${fullTime(at)}>${clockTime(at)}</time><${Marks} id=${id} row=${row} /></header>`}
      ${row.reply_to && !row.recalled && html`<${Quote} id=${id} target=${target} seq=${row.reply_to}
          nameOf=${nameOf} />`}
      <${Content} row=${row} me=${me} nameOf=${nameOf} author=${author} />
      ${(isBare || isAction) && html`<${Marks} id=${id} row=${row} />`}
      <${Reactions} id=${id} row=${row} nameOf=${nameOf} canAct=${canAct && !row.recalled} />
      ${readBy && html`<span class="read-by">${readBy}</span>`}
    </div>
    ${canAct && !row.recalled && html`<${Tools} id=${id} row=${row} mine=${mine} isOfficer=${isOfficer}
        mayPin=${mayPin} />`}
  </article>`;
  },
);

/** A message on its way: sending, sent but not yet in the log's stream, or failed with the reason. */
export function Pending({ entry, me, nameOf, target }) {
  const chat = useChat();
  const row = { ...entry, actor: me, reactions: [] };
  const failed = entry.state === "failed";
  return html`<article class=${`message own pending ${entry.state}`}
      aria-label=${failed ? "Not sent" : "Sending"}>
    <div class="margin"><${Avatar} id=${me} name=${nameOf(me)} /></div>
    <div class="body">
      <header><${Name} text=${nameOf(me)} /><time>${clockTime(entry.at)}</time><span
          class="send-state">${failed ? "not sent" : entry.state === "sent" ? "sent" : "sending…"}</span></header>
      ${entry.reply_to && html`<${Quote} id=${entry.conversation_id} target=${target} seq=${entry.reply_to}
          nameOf=${nameOf} />`}
      <${Content} row=${row} me=${me} nameOf=${nameOf} author=${nameOf(me)} />
      ${
        failed &&
        html`<p class="problem" role="alert"><bdi>${entry.detail}</bdi>
        <button type="button" class="link"
            onClick=${() => chat.sender.retry(entry.client_msg_id)}>Try again</button>
        <button type="button" class="link"
            onClick=${() => chat.sender.discard(entry.client_msg_id)}>Discard</button></p>`
      }
    </div>
  </article>`;
}
