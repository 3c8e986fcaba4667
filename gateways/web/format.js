// Times and names as people read them.

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DATE_AND_YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const LONG_DAY = new Intl.DateTimeFormat(undefined, {
  weekday: "long",
  day: "numeric",
  month: "long",
  year: "numeric",
});
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const DAY_MS = 86_400_000;

const dayOf = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();

/** A key that is the same for all times of one local day. */
export function dayKey(at) {
  return dayOf(new Date(at));
}

/** `14:05`, local. */
export function clockTime(at) {
  return CLOCK.format(new Date(at));
}

/** The whole moment, for titles. */
export function fullTime(at) {
  return FULL.format(new Date(at));
}

/** Today, Yesterday, or the date: the line between two days. */
export function dayLabel(at, now = new Date()) {
  const days = Math.round((dayOf(now) - dayKey(at)) / DAY_MS);
  if (days === 0) return "Today";
  return days === 1 ? "Yesterday" : LONG_DAY.format(new Date(at));
}

/** As short as it can be: the time today, the weekday this week, else the date. */
export function shortTime(at, now = new Date()) {
  if (!at) return "";
  const then = new Date(at);
  const days = Math.round((dayOf(now) - dayOf(then)) / DAY_MS);
  if (days <= 0) return CLOCK.format(then);
  if (days < 7) return WEEKDAY.format(then);
  return then.getFullYear() === now.getFullYear() ? DATE.format(then) : DATE_AND_YEAR.format(then);
}

/** The first letter or sign of a name, whole even when it is made of several code points. */
export function initialOf(name) {
  const visible = name.replace(/[^\p{L}\p{N}\p{Emoji_Presentation}]/gu, "") || name;
  const [first] = new Intl.Segmenter(undefined, { granularity: "grapheme" }).segment(visible);
  return first ? first.segment.toUpperCase() : "?";
}

/** One of eight colours, always the same for the same id. */
export function hueOf(id) {
  let hash = 7;
  for (const character of id) hash = (hash * 31 + character.codePointAt(0)) % 9973;
  return hash % 8;
}

/** `1 person`, `3 people`. */
export function counted(count, one, many) {
  return `${count} ${count === 1 ? one : many}`;
}
