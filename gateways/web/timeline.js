// The messages of one conversation as the page holds them: a window of rows, ascending by seq. Pure functions.

/** Rows kept in memory for one conversation; beyond it the far end is dropped and fetched again when wanted. */
export const WINDOW_ROWS_MAX = 600;
/** Events kept that come while a page is fetched; beyond it the page must be fetched again to show them. */
const MEANWHILE_MAX = 1000;
/** People named beside a reaction; the count goes on above it. */
export const REACTION_USERS_SHOWN = 10;

/** Events that appear between the messages as a line of their own. */
export const NOTICE_TYPES = new Set([
  "group_created",
  "group_changed",
  "group_dissolved",
  "group_muted",
  "group_unmuted",
  "member_added",
  "member_removed",
  "member_left",
  "member_alias_changed",
  "member_muted",
  "member_unmuted",
  "role_changed",
  "owner_transferred",
  "direct_opened",
  "message_pinned",
  "friend_requested",
  "friend_accepted",
]);

/**
 * An unloaded timeline. `rows` maps seq to message row, `notices` seq to event, `order` lists the seqs of both;
 * `has_newer` says that the window does not reach the head, so live messages are not appended to it.
 */
export const EMPTY_TIMELINE = Object.freeze({
  loaded: false,
  loading: false,
  error: null,
  rows: {},
  notices: {},
  order: [],
  has_older: true,
  has_newer: false,
  epoch: 0,
  meanwhile: [],
});

const ascending = (a, b) => a - b;

function ordered(rows, notices) {
  return [...new Set([...Object.keys(rows), ...Object.keys(notices)])].map(Number).sort(ascending);
}

/** Seq of the newest thing in the window, or 0. */
export function newestSeq(timeline) {
  return timeline.order.at(-1) ?? 0;
}

/** Seq of the oldest thing in the window, or 0. */
export function oldestSeq(timeline) {
  return timeline.order[0] ?? 0;
}

/** Puts a fetched page in. `place`: `replace` (a fresh window), `older` or `newer` (beside what is there). */
export function withPage(timeline, { place, rows, notices = [], has_older, has_newer }) {
  const fresh = place === "replace";
  const nextRows = fresh ? {} : { ...timeline.rows };
  for (const row of rows) nextRows[row.seq] = row;
  const nextNotices = fresh ? {} : { ...timeline.notices };
  for (const notice of notices) nextNotices[notice.seq] = notice;
  const next = {
    ...timeline,
    loaded: true,
    loading: false,
    error: null,
    rows: nextRows,
    notices: nextNotices,
    order: ordered(nextRows, nextNotices),
    has_older: place === "newer" ? timeline.has_older : has_older,
    has_newer: place === "older" ? timeline.has_newer : has_newer,
    epoch: fresh ? timeline.epoch + 1 : timeline.epoch,
    meanwhile: [],
  };
  const whole = bounded(next, place === "older" ? "newest" : "oldest");
  return timeline.meanwhile
    .filter(({ event }) => fresh || (place === "newer" && event.type === "message_posted"))
    .reduce((known, { event, me }) => withEvent(known, event, me), whole);
}

/** Cuts the window to its bound, dropping rows at the end that is farther from the reader. */
function bounded(timeline, drop) {
  const excess = timeline.order.length - WINDOW_ROWS_MAX;
  if (excess <= 0) return timeline;
  const order = drop === "oldest" ? timeline.order.slice(excess) : timeline.order.slice(0, -excess);
  const keep = new Set(order);
  const kept = (things) =>
    Object.fromEntries(Object.entries(things).filter(([seq]) => keep.has(Number(seq))));
  const edge = drop === "oldest" ? { has_older: true } : { has_newer: true };
  return { ...timeline, ...edge, order, rows: kept(timeline.rows), notices: kept(timeline.notices) };
}

function withRow(timeline, row) {
  return { ...timeline, rows: { ...timeline.rows, [row.seq]: row } };
}

/** The row that a `message_posted` event stands for. */
export function rowOfPosted(event) {
  const { seq, actor, at, data } = event;
  return { seq, actor, at, reactions: [], ...data };
}

/** Applies one event of the conversation. An event that is already in the rows changes nothing. */
export function withEvent(timeline, event, me) {
  if (timeline.loading && timeline.meanwhile.length < MEANWHILE_MAX) {
    timeline = { ...timeline, meanwhile: [...timeline.meanwhile, { event, me }] };
  }
  if (!timeline.loaded) return timeline;
  const { type, seq, data } = event;
  if (type === "message_posted") return appended(timeline, "rows", rowOfPosted(event));
  const target = data?.target === undefined ? undefined : timeline.rows[data.target];
  const changed = target === undefined ? timeline : withRow(timeline, changedRow(target, event, me));
  return NOTICE_TYPES.has(type) ? appended(changed, "notices", event, seq) : changed;
}

function appended(timeline, shelf, thing) {
  if (timeline.has_newer || timeline[shelf][thing.seq] !== undefined) return timeline;
  const things = { ...timeline[shelf], [thing.seq]: thing };
  const inOrder = thing.seq > newestSeq(timeline);
  const order = inOrder ? [...timeline.order, thing.seq] : [...timeline.order, thing.seq].sort(ascending);
  return bounded({ ...timeline, [shelf]: things, order }, "oldest");
}

/** One row after one event that is aimed at it. */
export function changedRow(row, event, me) {
  const { type, data, at, actor } = event;
  switch (type) {
    case "message_edited":
      if (data.content === null) return recalledRow(row);
      if (row.recalled || (row.edited_at && row.edited_at > at)) return row;
      return { ...row, content: data.content, edited_at: at };
    case "message_recalled":
      return recalledRow(row);
    case "message_pinned":
      return { ...row, pinned: true };
    case "message_unpinned":
      return { ...row, pinned: false };
    case "reaction_added":
      return { ...row, reactions: withReaction(row.reactions ?? [], data.emoji, actor, me) };
    case "reaction_removed":
      return { ...row, reactions: withoutReaction(row.reactions ?? [], data.emoji, actor, me) };
    default:
      return row;
  }
}

function recalledRow(row) {
  return { ...row, content: null, recalled: true };
}

function withReaction(reactions, emoji, actor, me) {
  const known = reactions.find((reaction) => reaction.emoji === emoji);
  const mine = actor === me;
  if (known === undefined) return [...reactions, { emoji, count: 1, users: [actor], mine }];
  if (known.users.includes(actor) || (mine && known.mine)) return reactions;
  const users = [...known.users, actor].slice(0, REACTION_USERS_SHOWN);
  const next = { ...known, count: known.count + 1, users, mine: known.mine || mine };
  return reactions.map((reaction) => (reaction === known ? next : reaction));
}

function withoutReaction(reactions, emoji, actor, me) {
  const known = reactions.find((reaction) => reaction.emoji === emoji);
  if (known === undefined) return reactions;
  const isListed = known.users.includes(actor);
  // Everybody is listed, so this one was taken away before the page was fetched.
  if (!isListed && known.count <= known.users.length) return reactions;
  if (known.count <= 1) return reactions.filter((reaction) => reaction !== known);
  const users = known.users.filter((user) => user !== actor);
  const next = { ...known, count: known.count - 1, users, mine: known.mine && actor !== me };
  return reactions.map((reaction) => (reaction === known ? next : reaction));
}
