// The messages of the open conversation: days, notices, the unread line, and a scroll position that stays where it is.

import { summaryOf } from "../content.js";
import { clockTime, dayKey, dayLabel, fullTime } from "../format.js";
import { Component, html, Icon, useChat } from "../html.js";
import { timeOf } from "../inbox.js";
import { sentenceOf } from "../notices.js";
import { newestSeq } from "../timeline.js";
import { Message, Pending } from "./message.js";

/** Messages of one person within this time stand under one head. */
const GROUPED_MS = 5 * 60_000;
/** This close to an edge, the next page is fetched; this close to the end counts as being there. */
const NEAR_EDGE_PX = 500;
const AT_END_PX = 60;

function Notice({ event, nameOf, id }) {
  const chat = useChat();
  return html`<p class="notice" title=${fullTime(event.at)}><bdi
      class="name">${nameOf(event.actor)}</bdi> ${sentenceOf(
    event,
    nameOf,
  ).map((part) => {
    if (typeof part === "string") return part;
    if (part.seq)
      return html`<button type="button" class="link"
          onClick=${() => chat.quietly(() => chat.jumpTo(id, part.seq))}>${part.text}</button>`;
    return html`<bdi>${part.text}</bdi>`;
  })}<time>${clockTime(event.at)}</time></p>`;
}

/** The rows with what stands between them: `{key, day}`, `{key, unread}`, `{key, notice}`, `{key, row, grouped}`. */
export function layOut(timeline, unreadFrom, me) {
  const items = [];
  let day = null;
  let before = null;
  let isMarked = unreadFrom === undefined;
  for (const seq of timeline.order) {
    const row = timeline.rows[seq];
    const at = row ? timeOf(row) : timeline.notices[seq].at;
    if (dayKey(at) !== day) {
      day = dayKey(at);
      before = null;
      items.push({ key: `day-${seq}`, day: at });
    }
    if (!isMarked && seq > unreadFrom && row && row.actor !== me) {
      isMarked = true;
      before = null;
      items.push({ key: "unread", unread: true });
    }
    if (row) {
      const grouped =
        before !== null &&
        before.actor === row.actor &&
        row.content?.kind !== "action" &&
        Date.parse(at) - Date.parse(timeOf(before)) < GROUPED_MS;
      items.push({ key: `m-${seq}`, row, grouped });
      before = row;
    } else {
      items.push({ key: `n-${seq}`, notice: timeline.notices[seq] });
      before = null;
    }
  }
  return items;
}

/** Properties: `state`, `id`, `timeline`, `nameOf`, `lastOwn` (seq), `canAct`, `isOfficer`, `mayPin`, `chat`. */
export class Timeline extends Component {
  box = null;
  following = true;

  componentDidMount() {
    this.toEnd();
    this.settle();
    document.addEventListener("visibilitychange", this.look);
    window.addEventListener("focus", this.look);
    this.resized = new ResizeObserver(() => this.following && this.toEnd());
    this.resized.observe(this.box);
  }

  componentWillUnmount() {
    document.removeEventListener("visibilitychange", this.look);
    window.removeEventListener("focus", this.look);
    this.resized.disconnect();
  }

  /** Before the page changes: which message stands where, so that it can stand there afterwards. */
  getSnapshotBeforeUpdate() {
    const top = this.box.getBoundingClientRect().top;
    for (const element of this.box.querySelectorAll("article[id]")) {
      const { bottom, top: place } = element.getBoundingClientRect();
      if (bottom > top) return { id: element.id, offset: place - top };
    }
    return null;
  }

  componentDidUpdate(before, _state, anchor) {
    const { state, timeline, id } = this.props;
    const isFresh = before.timeline.epoch !== timeline.epoch || !before.timeline.loaded;
    const hasFocus = state.focusSeq !== null && before.state.focusSeq !== state.focusSeq;
    const hasSent =
      before.state.outbox.length < state.outbox.length && state.outbox.at(-1).conversation_id === id;
    if (hasFocus) this.show(state.focusSeq);
    else if (hasSent && !timeline.has_newer) this.toEnd();
    else if (isFresh && !timeline.has_newer && state.focusSeq === null) this.toFirstUnread();
    else if (this.following && !timeline.has_newer) this.toEnd();
    else this.hold(anchor);
    this.settle();
    if (!isFresh) this.announce(before.timeline);
  }

  /** Reads out what others write while the end of the conversation is there; never what scrolling brings. */
  announce(before) {
    const { state, timeline, nameOf } = this.props;
    const newest = newestSeq(timeline);
    const row = timeline.rows[newest];
    if (before.has_newer || newest <= newestSeq(before) || !row || row.actor === state.me.user_id) return;
    this.setState({ said: `${nameOf(row.actor)}: ${summaryOf(row)}` });
  }

  /** The arrows walk from message to message, so that Tab reaches what can be done with one of them. */
  onKeyDown = (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    const articles = [...this.box.querySelectorAll("article[id]")];
    const here = articles.indexOf(document.activeElement.closest("article"));
    const next = articles[here < 0 ? articles.length - 1 : here + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  };

  hold(anchor) {
    const element = anchor && document.getElementById(anchor.id);
    if (!element) return;
    const offset = element.getBoundingClientRect().top - this.box.getBoundingClientRect().top;
    this.box.scrollTop += offset - anchor.offset;
  }

  toEnd() {
    this.box.scrollTop = this.box.scrollHeight;
    this.following = true;
  }

  toFirstUnread() {
    const line = this.box.querySelector(".unread-line");
    this.toEnd();
    if (line) this.box.scrollTop = Math.min(this.box.scrollTop, line.offsetTop - this.box.offsetTop - 80);
    this.following = this.isAtEnd();
  }

  show(seq) {
    const element = document.getElementById(`m-${seq}`);
    if (!element) return;
    this.following = false;
    element.scrollIntoView({ block: "center" });
    element.focus({ preventScroll: true });
  }

  isAtEnd() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    return scrollHeight - scrollTop - clientHeight < AT_END_PX;
  }

  onScroll = () => {
    this.following = this.isAtEnd();
    this.settle();
  };

  look = () => this.settle();

  /** Fetches what is near and marks what is seen. */
  settle() {
    const { chat, id, timeline } = this.props;
    if (!timeline.loaded || timeline.loading || timeline.error) return;
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    if (scrollTop < NEAR_EDGE_PX && timeline.has_older) chat.history.older(id);
    else if (scrollHeight - scrollTop - clientHeight < NEAR_EDGE_PX && timeline.has_newer)
      chat.history.newer(id);
    if (this.isAtEnd()) chat.reading.atEnd(id);
    if (this.state.atEnd !== this.isAtEnd()) this.setState({ atEnd: this.isAtEnd() });
  }

  jumpToEnd = async () => {
    const { chat, id, timeline } = this.props;
    if (timeline.has_newer) await chat.history.newest(id);
    chat.dispatch({ type: "focus", seq: null });
    this.toEnd();
    this.settle();
  };

  retry = () => {
    const { chat, id, timeline } = this.props;
    if (timeline.loaded) chat.history.older(id);
    else chat.history.newest(id);
  };

  drawItem(item) {
    const { state, id, timeline, nameOf, canAct, isOfficer, mayPin } = this.props;
    const me = state.me.user_id;
    if (item.day) return html`<h3 key=${item.key} class="day"><span>${dayLabel(item.day)}</span></h3>`;
    if (item.unread) return html`<p key=${item.key} class="unread-line"><span>New</span></p>`;
    if (item.notice)
      return html`<${Notice} key=${item.key} event=${item.notice} nameOf=${nameOf} id=${id} />`;
    const { row } = item;
    return html`<${Message} key=${item.key} id=${id} row=${row} me=${me} grouped=${item.grouped}
        nameOf=${nameOf}
      target=${row.reply_to ? timeline.rows[row.reply_to] : undefined}
          online=${row.actor === me ? undefined : state.presence[row.actor]?.online}
      canAct=${canAct} isOfficer=${isOfficer} mayPin=${mayPin} isFocused=${state.focusSeq === row.seq}
          readBy=${this.readers(row)} />`;
  }

  /** "Read" under the newest own message, once somebody else's mark has reached it. */
  readers(row) {
    const { state, id, nameOf, lastOwn } = this.props;
    if (row.seq !== lastOwn) return null;
    const readers = Object.entries(state.receipts[id] ?? {}).filter(
      ([user, seq]) => seq >= row.seq && user !== state.me.user_id,
    );
    if (readers.length === 0) return null;
    if (state.conversations[id].kind === "direct") return "Read";
    return readers.length <= 3
      ? `Read by ${readers.map(([user]) => nameOf(user)).join(", ")}`
      : `Read by ${readers.length}`;
  }

  render({ state, id, timeline, nameOf, chat }) {
    const waiting = state.outbox.filter((entry) => entry.conversation_id === id);
    const me = state.me.user_id;
    const away = timeline.has_newer || this.state.atEnd === false;
    const head = state.conversations[id]?.last_message?.seq ?? 0;
    return html`<div class="timeline-frame">
      <div class="timeline" ref=${(element) => {
        this.box = element ?? this.box;
      }} onScroll=${this.onScroll} onKeyDown=${this.onKeyDown} tabindex="0" role="log" aria-live="off"
          aria-label="Messages">
        ${timeline.loaded && !timeline.has_older && html`<p
            class="beginning">The beginning of this conversation</p>`}
        ${timeline.loading && html`<p class="empty">Loading…</p>`}
        ${timeline.error && html`<p class="problem" role="alert">${timeline.error} <button type="button"
            class="link" onClick=${this.retry}>Try again</button></p>`}
        ${layOut(timeline, state.unreadFrom[id], me).map((item) => this.drawItem(item))}
        ${!timeline.has_newer && waiting.map((entry) => html`<${Pending} key=${entry.client_msg_id}
            entry=${entry} me=${me} nameOf=${nameOf} target=${timeline.rows[entry.reply_to]} />`)}
      </div>
      <p class="unseen" aria-live="polite"><bdi>${this.state.said}</bdi></p>
      ${
        away &&
        html`<button type="button" class="to-end" onClick=${this.jumpToEnd}
            aria-label="To the newest message"><${Icon} name="down" />
        ${head > newestSeq(timeline) || chat.state.conversations[id]?.unread > 0 ? "New messages" : "Newest"}</button>`
      }
    </div>`;
  }
}
