// The conversations in the list: order, numbers, names. Pure functions over `{id: conversation}`.

import { rowOfPosted } from "./timeline.js";

/** The time of a message as people see it: its original one if it was imported. */
export function timeOf(row) {
  return row?.origin?.at ?? row?.at ?? "";
}

/** Pinned first, then newest activity first; equals by id so that the order is always the same. */
export function inOrder(conversations) {
  return Object.values(conversations).sort(
    (a, b) =>
      Number(b.pinned ?? false) - Number(a.pinned ?? false) ||
      activityOf(b).localeCompare(activityOf(a)) ||
      a.conversation_id.localeCompare(b.conversation_id),
  );
}

function activityOf(conversation) {
  return conversation.active_at ?? conversation.last_message?.at ?? "";
}

/**
 * Rows of `GET /v1/conversations` (newest activity first) over what is known; a row replaces the older one of the same
 * id. The time of its activity is its last message's; one without messages keeps its place beside its neighbours, or
 * counts as active at `active_at`, when it was met by an event.
 */
export function withRows(conversations, rows, active_at) {
  const next = { ...conversations };
  let above = active_at ?? rows.find((row) => row.last_message)?.last_message.at;
  for (const row of rows) {
    const before = next[row.conversation_id];
    // An answer that was under way while newer events came in must not turn the numbers back.
    if (before !== undefined && (before.head ?? 0) > (row.head ?? 0)) continue;
    above = row.last_message?.at ?? before?.active_at ?? above;
    next[row.conversation_id] = { left: false, ...row, active_at: above };
  }
  return next;
}

/** Changes fields of one conversation, if it is known. */
export function withChange(conversations, id, change) {
  const known = conversations[id];
  if (known === undefined) return conversations;
  const defined = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
  return { ...conversations, [id]: { ...known, ...defined } };
}

/** Applies one event of a known conversation: its head, last message, counts, name and membership. */
export function withEvent(conversations, event, me) {
  const known = conversations[event.conversation_id];
  if (known === undefined) return conversations;
  const next = { ...known, head: Math.max(known.head ?? 0, event.seq), ...changes(known, event, me) };
  return { ...conversations, [event.conversation_id]: next };
}

function changes(known, event, me) {
  const { type, data, seq, at, actor } = event;
  switch (type) {
    case "message_posted":
      return posted(known, event, me);
    case "message_edited":
    case "message_recalled":
      return lastMessageChanged(known, event);
    case "group_changed":
      return data.changes?.name === undefined ? {} : { name: data.changes.name };
    case "member_added":
      return data.user_id === me ? { left: false, first_seq: seq, active_at: at } : {};
    case "member_left":
    case "member_removed":
      return data.user_id === me ? { left: true } : {};
    case "group_dissolved":
      return { dissolved: true, left: true, active_at: at, ended_by: actor };
    default:
      return {};
  }
}

function posted(known, event, me) {
  const { seq, at, actor, data } = event;
  if (seq <= (known.last_message?.seq ?? 0)) return {};
  const change = { last_message: rowOfPosted(event), active_at: at };
  if (actor === me)
    return { ...change, unread: 0, mentions: 0, read_seq: Math.max(known.read_seq ?? 0, seq) };
  if (seq <= (known.read_seq ?? 0) || data.recalled) return change;
  const names = data.mentions ?? [];
  const isForMe = names.includes(me) || names.includes("all");
  return { ...change, unread: (known.unread ?? 0) + 1, mentions: (known.mentions ?? 0) + (isForMe ? 1 : 0) };
}

function lastMessageChanged(known, event) {
  const last = known.last_message;
  if (last?.seq !== event.data.target) return {};
  const isGone = event.type === "message_recalled" || event.data.content === null;
  return {
    last_message: isGone
      ? { ...last, content: null, recalled: true }
      : { ...last, content: event.data.content },
  };
}

/** What to call a conversation: the group's name, the other person's, or notes to self. */
export function titleOf(conversation, me) {
  if (conversation === undefined) return "";
  if (conversation.kind !== "direct") return conversation.name ?? conversation.conversation_id;
  if (!conversation.peer || conversation.peer.user_id === me) return "Notes to self";
  return conversation.peer.name || conversation.peer.user_id;
}
