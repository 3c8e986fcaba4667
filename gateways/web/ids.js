// Fresh ids: for messages, keys and this tab.

/** 128 random bits in hex. `crypto.randomUUID` is missing on plain http, so this does without. */
export function freshId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
