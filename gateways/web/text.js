// Message text cut into pieces that are safe to show: plain runs, links, mentions. Pieces are data; no markup is made.

const LINK = /\bhttps?:\/\/[^\s<>"'`]+/giu;
const MENTION = /(?<![\p{L}\p{N}_.@-])@([a-z0-9][a-z0-9_.@-]{0,63})/giu;
/** Punctuation that ends a sentence rather than an address. */
const TRAILING = /[.,;:!?)\]}'"»›…]+$/u;

/** Links taken from one message; what follows stays plain text. */
export const PIECES_MAX = 500;

function linkPiece(found) {
  const text = found.replace(TRAILING, (tail, at) =>
    tail.startsWith(")") && found.slice(0, at).includes("(") ? ")" : "",
  );
  let address;
  try {
    address = new URL(text);
  } catch {
    return null;
  }
  // A name or password before the host is how a link lies about where it goes.
  if (address.username || address.password) return null;
  return { type: "link", text, href: address.href };
}

/**
 * The user id meant by `@…`: sentence punctuation at the end belongs to it only if somebody is really called so.
 * `isKnown(user_id)` says who can be meant.
 */
function mentionPiece(name, isKnown) {
  for (let id = name.toLowerCase(); id.length > 0; id = id.slice(0, -1)) {
    if (isKnown(id)) return { type: "mention", text: `@${name.slice(0, id.length)}`, user_id: id };
    if (!/[.@_-]$/.test(id)) return null;
  }
  return null;
}

/** `[{type: text|link|mention, text, href?, user_id?}]`; the texts joined are the message, character by character. */
export function pieces(text, isKnown = () => false) {
  const marks = [];
  for (const match of text.matchAll(LINK)) {
    const piece = linkPiece(match[0]);
    if (piece) marks.push({ at: match.index, piece });
  }
  for (const match of text.matchAll(MENTION)) {
    const piece = mentionPiece(match[1], isKnown);
    if (piece) marks.push({ at: match.index, piece });
  }
  marks.sort((a, b) => a.at - b.at);
  const result = [];
  let position = 0;
  for (const { at, piece } of marks.slice(0, PIECES_MAX)) {
    if (at < position) continue;
    if (at > position) result.push({ type: "text", text: text.slice(position, at) });
    result.push(piece);
    position = at + piece.text.length;
  }
  if (position < text.length) result.push({ type: "text", text: text.slice(position) });
  return result;
}

/** The ids mentioned in a text, each once: what goes into `mentions`. `@all` stands for everybody. */
export function mentionsIn(text, isKnown) {
  const known = (id) => id === "all" || isKnown(id);
  const ids = pieces(text, known)
    .filter((piece) => piece.type === "mention")
    .map((piece) => piece.user_id);
  return ids.includes("all") ? ["all"] : [...new Set(ids)];
}

/** The unfinished `@name` before the cursor, or null: what the completion list is about. */
export function mentionBeforeCursor(text, cursor) {
  const match = /(?:^|[\s(])@([\p{L}\p{N}_.@-]{0,64})$/u.exec(text.slice(0, cursor));
  return match === null ? null : { start: cursor - match[1].length - 1, query: match[1].toLowerCase() };
}
