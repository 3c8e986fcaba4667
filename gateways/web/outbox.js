// Messages that the person has sent and the server has not yet acknowledged. Pure functions over an array.

/** Waiting messages kept over a reload; more than that, and the oldest failed ones are let go first. */
export const OUTBOX_MAX = 100;

/**
 * One entry: `{client_msg_id, conversation_id, content, reply_to?, mentions?, at, state: sending|sent|failed, detail?}`.
 * `sent` is acknowledged but its event has not come yet; the event takes the entry out.
 */
export function withEntry(outbox, entry) {
  const room = outbox.length < OUTBOX_MAX ? outbox : dropOldest(outbox);
  return [...room, { state: "sending", ...entry }];
}

function dropOldest(outbox) {
  const failed = outbox.findIndex((entry) => entry.state === "failed");
  const victim = failed >= 0 ? failed : 0;
  return outbox.filter((_, index) => index !== victim);
}

export function withState(outbox, client_msg_id, fields) {
  return outbox.map((entry) => (entry.client_msg_id === client_msg_id ? { ...entry, ...fields } : entry));
}

export function without(outbox, client_msg_id) {
  return outbox.some((entry) => entry.client_msg_id === client_msg_id)
    ? outbox.filter((entry) => entry.client_msg_id !== client_msg_id)
    : outbox;
}

/** Own messages that appeared as rows are no longer waiting. */
export function withoutRows(outbox, rows, me) {
  const there = new Set(rows.filter((row) => row.actor === me).map((row) => row.client_msg_id));
  return outbox.some((entry) => there.has(entry.client_msg_id))
    ? outbox.filter((entry) => !there.has(entry.client_msg_id))
    : outbox;
}
