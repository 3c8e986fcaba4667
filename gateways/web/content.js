// What a message's content says in plain words, for every kind of the contract.

const CALLS = {
  invite: "is calling",
  accept: "accepted the call",
  reject: "declined the call",
  cancel: "cancelled the call",
  end: "ended the call",
  timeout: "missed the call",
};

/** Content made from what was typed: `/me waves` is an action. */
export function contentOfTyped(typed) {
  const action = /^\/me\s+(\S[\s\S]*)$/.exec(typed);
  return action === null ? { kind: "text", text: typed } : { kind: "action", text: action[1] };
}

/** What was typed to get this content, or null if it cannot be edited as text. */
export function typedOf(content) {
  if (content?.kind === "text") return content.text;
  return content?.kind === "action" ? `/me ${content.text}` : null;
}

/** The visible words of an html message. The parsed document is inert: nothing in it loads, runs or is shown. */
function wordsOf(html) {
  return new DOMParser().parseFromString(html, "text/html").body.textContent ?? "";
}

const CARDS = {
  image: (c) => ["Image", c.caption || c.name || ""],
  audio: (c) => ["Audio", c.caption || c.name || ""],
  video: (c) => ["Video", c.caption || c.name || ""],
  file: (c) => ["File", c.name || c.caption || ""],
  location: (c) => [
    "Location",
    [c.title, c.address, `${c.latitude}, ${c.longitude}`].filter(Boolean).join(" · "),
  ],
  contact_card: (c) => ["Contact", c.user_id],
  quote: (c) => ["Quote", c.text || `message ${c.seq} of another conversation`],
  forward: (c) => ["Forwarded", c.title || `${c.messages?.length ?? 0} messages`],
  emoji: (c) => ["Emoji", c.code],
  html: (c) => ["Formatted text", wordsOf(c.html)],
  call: (c) => ["Call", `${CALLS[c.action] ?? c.action} (${c.media})`],
  voip: () => ["Call", "connection data"],
  vote: (c) => ["Vote", [c.question, ...(c.options ?? []).map((option) => `• ${option}`)].join("\n")],
  reminder: (c) => ["Reminder", `${c.text} — ${c.at}`],
  red_envelope: (c) => ["Red envelope", c.title || ""],
  custom: (c) => ["Data", JSON.stringify(c.data, null, 1)],
  notification: (c) => ["Notification", c.text || c.title || ""],
  system: (c) => ["System", c.text || ""],
};

/** `{label, body}` of a kind that is shown as a card; unknown kinds too, so that nothing is ever invisible. */
export function cardOf(content) {
  const card = CARDS[content.kind];
  const [label, body] = card ? card(content) : [content.kind, JSON.stringify(content)];
  return { label, body: String(body ?? "") };
}

/** One line for lists, quotes and notifications. */
export function summaryOf(row) {
  if (!row) return "";
  if (row.recalled || row.content === null || row.content === undefined) return "message recalled";
  const { kind, text } = row.content;
  if (kind === "text" || kind === "action") return text.replace(/\s+/gu, " ").slice(0, 200);
  const { label, body } = cardOf(row.content);
  return body ? `${label}: ${body.replace(/\s+/gu, " ").slice(0, 160)}` : label;
}
