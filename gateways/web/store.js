// Everything the page shows, as one immutable value and one pure function from a happening to the next value.

import * as inbox from "./inbox.js";
import * as outbox from "./outbox.js";
import * as roster from "./roster.js";
import * as timeline from "./timeline.js";

/** A typing hint lapses by itself after this long. */
export const TYPING_MS = 6000;
/** Small notes at the edge of the page, at most so many at a time. */
export const TOASTS_MAX = 4;

export const INITIAL = Object.freeze({
  me: null,
  connection: { status: "stopped" },
  inboxLoaded: false,
  conversations: {},
  timelines: {},
  members: {},
  groups: {},
  users: {},
  presence: {},
  typing: {},
  outbox: [],
  blocks: {},
  receipts: {},
  open: null,
  panel: null,
  replyTo: {},
  editing: {},
  drafts: {},
  dialog: null,
  toasts: [],
  focusSeq: null,
  unreadFrom: {},
  search: null,
});

const timelineOf = (state, id) => state.timelines[id] ?? timeline.EMPTY_TIMELINE;

const withTimeline = (state, id, next) => ({ ...state, timelines: { ...state.timelines, [id]: next } });

const withKey = (map, key, value) => ({ ...map, [key]: value });

function withoutKey(map, key) {
  const { [key]: _, ...rest } = map;
  return rest;
}

/** Names that came along with rows are worth keeping. */
function withNames(users, people) {
  const news = people.filter((person) => person?.name && users[person.user_id]?.name !== person.name);
  return news.length === 0
    ? users
    : {
        ...users,
        ...Object.fromEntries(
          news.map((person) => [person.user_id, { ...users[person.user_id], ...person }]),
        ),
      };
}

function onEvent(state, { event }) {
  const me = state.me?.user_id;
  if (event.conversation_id === "me") return onOwnEvent(state, event);
  const id = event.conversation_id;
  const nameOf = (user_id) => state.users[user_id]?.name ?? user_id;
  let next = { ...state, conversations: inbox.withEvent(state.conversations, event, me) };
  if (state.timelines[id]) next = withTimeline(next, id, timeline.withEvent(state.timelines[id], event, me));
  if (state.members[id]) {
    const people = roster.withEvent(state.members[id].people, event, nameOf);
    next.members = withKey(state.members, id, { ...state.members[id], people });
  }
  if (state.groups[id])
    next.groups = withKey(state.groups, id, roster.settingsAfter(state.groups[id], event, me));
  if (event.type === "message_posted") {
    if (event.actor === me) next.outbox = outbox.without(state.outbox, event.data.client_msg_id);
    next.typing = withKey(state.typing, id, withoutKey(state.typing[id] ?? {}, event.actor));
  }
  return next;
}

function onOwnEvent(state, { type, data }) {
  switch (type) {
    case "read_marked":
      return withNumbers(state, data.conversation_id, { read_seq: data.read_seq });
    case "conversation_settings_changed": {
      const { conversation_id, pinned, muted } = data;
      return {
        ...state,
        conversations: inbox.withChange(state.conversations, conversation_id, { pinned, muted }),
      };
    }
    case "user_blocked":
      return { ...state, blocks: withKey(state.blocks, data.user_id, true) };
    case "user_unblocked":
      return { ...state, blocks: withoutKey(state.blocks, data.user_id) };
    case "profile_changed":
      return { ...state, me: { ...state.me, ...data.changes } };
    default:
      return state;
  }
}

function withNumbers(state, id, numbers) {
  const known = state.conversations[id];
  if (known === undefined) return state;
  const { unread, mentions, head, left, pinned, muted, first_seq } = numbers;
  const read_seq =
    numbers.read_seq === undefined ? undefined : Math.max(known.read_seq ?? 0, numbers.read_seq);
  const change = { unread, mentions, head, left, pinned, muted, first_seq, read_seq };
  return { ...state, conversations: inbox.withChange(state.conversations, id, change) };
}

function onHint(state, { hint, now }) {
  switch (hint.op) {
    case "typing": {
      const people = state.typing[hint.conversation_id] ?? {};
      const next = hint.on
        ? withKey(people, hint.user_id, now + TYPING_MS)
        : withoutKey(people, hint.user_id);
      return { ...state, typing: withKey(state.typing, hint.conversation_id, next) };
    }
    case "presence": {
      const { user_id, online, last_seen } = hint;
      return { ...state, presence: withKey(state.presence, user_id, { online, last_seen }) };
    }
    case "inbox":
      return withNumbers(state, hint.conversation_id, hint);
    case "receipt": {
      if (!hint.read) return state;
      const readers = state.receipts[hint.conversation_id] ?? {};
      const read = Math.max(readers[hint.user_id] ?? 0, hint.read);
      return {
        ...state,
        receipts: withKey(state.receipts, hint.conversation_id, withKey(readers, hint.user_id, read)),
      };
    }
    default:
      return state;
  }
}

function lapse(state, { now }) {
  const typing = {};
  let changed = false;
  for (const [id, people] of Object.entries(state.typing)) {
    typing[id] = Object.fromEntries(Object.entries(people).filter(([, until]) => until > now));
    changed ||= Object.keys(typing[id]).length !== Object.keys(people).length;
  }
  return changed ? { ...state, typing } : state;
}

function opened(state, { id }) {
  const known = state.conversations[id];
  const unreadFrom =
    known && known.unread > 0
      ? withKey(state.unreadFrom, id, known.read_seq ?? 0)
      : withoutKey(state.unreadFrom, id);
  const panel = id === state.open ? state.panel : null;
  return { ...state, open: id, panel, unreadFrom, focusSeq: null, search: null };
}

function pageLoaded(state, { id, page, people = [] }) {
  const next = withTimeline(state, id, timeline.withPage(timelineOf(state, id), page));
  return {
    ...next,
    outbox: outbox.withoutRows(state.outbox, page.rows, state.me?.user_id),
    users: withNames(state.users, people),
  };
}

function inboxLoaded(state, { rows, active_at }) {
  const peers = rows.map((row) => row.peer).filter(Boolean);
  return {
    ...state,
    inboxLoaded: true,
    conversations: inbox.withRows(state.conversations, rows, active_at),
    users: withNames(state.users, peers),
  };
}

function rowLoaded(state, { id, row }) {
  const known = timelineOf(state, id);
  return known.rows[row.seq]
    ? withTimeline(state, id, { ...known, rows: withKey(known.rows, row.seq, row) })
    : state;
}

function membersLoaded(state, { id, rows, complete }) {
  const people = Object.fromEntries(rows.map((row) => [row.user_id, row]));
  const presence = { ...state.presence };
  for (const row of rows)
    if (row.online !== undefined) presence[row.user_id] = { ...presence[row.user_id], online: row.online };
  return {
    ...state,
    presence,
    members: withKey(state.members, id, { people, complete }),
    users: withNames(state.users, rows),
  };
}

function toasted(state, { toast }) {
  return { ...state, toasts: [...state.toasts, toast].slice(-TOASTS_MAX) };
}

/** What each happening does. A happening is `{type, …}`; one that is not listed here is a mistake in the page. */
const HAPPENINGS = {
  signed_in: (state, { me }) => ({ ...INITIAL, me, outbox: state.outbox }),
  signed_out: () => INITIAL,
  outbox_restored: (state, { entries }) => ({ ...state, outbox: entries }),
  profile_loaded: (state, { me }) => ({ ...state, me: { ...state.me, ...me } }),
  status: (state, { type: _, ...connection }) => ({ ...state, connection }),
  event: onEvent,
  hint: onHint,
  numbers: (state, { conversation_id, ...numbers }) => withNumbers(state, conversation_id, numbers),
  restart: (state, { conversation_id }) => ({
    ...state,
    timelines: withoutKey(state.timelines, conversation_id),
  }),
  log_changed: (state) => ({
    ...state,
    conversations: {},
    timelines: {},
    members: {},
    groups: {},
    receipts: {},
    typing: {},
    inboxLoaded: false,
  }),
  lapse,
  inbox_loaded: inboxLoaded,
  opened,
  closed: (state) => ({ ...state, open: null, panel: null, search: null }),
  panel: (state, { panel }) => ({ ...state, panel: state.panel === panel ? null : panel }),
  dialog: (state, { dialog }) => ({ ...state, dialog }),
  page_loading: (state, { id }) =>
    withTimeline(state, id, { ...timelineOf(state, id), loading: true, error: null, meanwhile: [] }),
  page_loaded: pageLoaded,
  page_failed: (state, { id, detail }) =>
    withTimeline(state, id, { ...timelineOf(state, id), loading: false, error: detail }),
  row_loaded: rowLoaded,
  focus: (state, { seq }) => ({ ...state, focusSeq: seq }),
  members_loaded: membersLoaded,
  group_loaded: (state, { id, group }) => ({ ...state, groups: withKey(state.groups, id, group) }),
  users_loaded: (state, { people }) => ({ ...state, users: withNames(state.users, people) }),
  blocks_loaded: (state, { users }) => ({
    ...state,
    blocks: Object.fromEntries(users.map((user) => [user, true])),
  }),
  blocked: (state, { user, on }) => ({
    ...state,
    blocks: on ? withKey(state.blocks, user, true) : withoutKey(state.blocks, user),
  }),
  sending: (state, { entry }) => ({ ...state, outbox: outbox.withEntry(state.outbox, entry) }),
  send_state: (state, { client_msg_id, fields }) => ({
    ...state,
    outbox: outbox.withState(state.outbox, client_msg_id, fields),
  }),
  send_dropped: (state, { client_msg_id }) => ({
    ...state,
    outbox: outbox.without(state.outbox, client_msg_id),
  }),
  marked_read: (state, { id, read_seq, unread }) =>
    withNumbers(state, id, { read_seq, unread, mentions: unread === 0 ? 0 : undefined }),
  reply_to: (state, { id, seq }) => ({
    ...state,
    replyTo: withKey(state.replyTo, id, seq),
    editing: withoutKey(state.editing, id),
  }),
  editing: (state, { id, seq }) => ({
    ...state,
    editing: withKey(state.editing, id, seq),
    replyTo: withoutKey(state.replyTo, id),
  }),
  draft: (state, { id, text }) => ({ ...state, drafts: withKey(state.drafts, id, text) }),
  search: (state, { search }) => ({ ...state, search }),
  toast: toasted,
  toast_gone: (state, { id }) => ({ ...state, toasts: state.toasts.filter((toast) => toast.id !== id) }),
};

/** The next state. Never changes the one given. */
export function reduce(state, happening) {
  const step = HAPPENINGS[happening.type];
  if (step === undefined) throw new Error(`unknown happening: ${happening.type}`);
  return step(state, happening);
}

/** A holder of the state: `state`, `dispatch(happening)` and `subscribe(listener)` (gives back its undoing). */
export function createStore(initial = INITIAL) {
  const listeners = new Set();
  const store = {
    state: initial,
    dispatch(happening) {
      const next = reduce(store.state, happening);
      if (next === store.state) return;
      store.state = next;
      for (const listener of listeners) listener();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return store;
}
