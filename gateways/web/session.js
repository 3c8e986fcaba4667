// Who is signed in in this tab: the tokens, where they are kept, and their renewal.

import { freshId } from "./ids.js";
import { Problem } from "./problem.js";

const KEY = "minutebook.session";
const DEVICE_KEY = "minutebook.device";
const CHANNEL = "minutebook.session";
/** A token this close to its end is renewed before it is used. */
export const RENEW_BEFORE_MS = 60_000;
/** A clock that runs wrong must not make every call a renewal. */
const RENEW_AT_MOST_EVERY_MS = 30_000;

/**
 * The tab's session. Each tab has its own (`sessionStorage`), so that two tabs can be two people; "stay signed in" keeps
 * a copy in `localStorage` that new tabs take up. Tabs that share one session tell each other of new tokens, because a
 * refresh token works only once.
 */
export class Session {
  #renewing = null;
  #renewed_at = 0;

  constructor({ tab = sessionStorage, kept = localStorage, now = Date.now, channel = openChannel() } = {}) {
    this.tab = tab;
    this.kept = kept;
    this.now = now;
    this.channel = channel;
    this.tokens = this.#read();
    if (channel) channel.onmessage = ({ data }) => this.#adopt(data);
  }

  /** The device id of this tab, made once. */
  get deviceId() {
    const known = this.tab.getItem(DEVICE_KEY);
    if (known) return known;
    const made = `web-${freshId()}`;
    this.tab.setItem(DEVICE_KEY, made);
    return made;
  }

  get isSignedIn() {
    return this.tokens !== null;
  }

  get userId() {
    return this.tokens?.user_id ?? null;
  }

  #read() {
    const text = this.tab.getItem(KEY) ?? this.kept.getItem(KEY);
    if (!text) return null;
    const tokens = JSON.parse(text);
    this.tab.setItem(KEY, text);
    if (tokens.device_id) this.tab.setItem(DEVICE_KEY, tokens.device_id);
    return tokens;
  }

  /** Starts using the tokens of a log-in. */
  begin(user_id, tokens, { stay }) {
    this.#write({ ...tokens, user_id, stay, device_id: this.deviceId });
  }

  #write(tokens) {
    this.tokens = tokens;
    const text = JSON.stringify(tokens);
    this.tab.setItem(KEY, text);
    if (tokens.stay) this.kept.setItem(KEY, text);
    this.channel?.postMessage(tokens);
  }

  #adopt(tokens) {
    if (tokens?.session_id !== this.tokens?.session_id || this.tokens === null) return;
    this.tokens = tokens;
    this.tab.setItem(KEY, JSON.stringify(tokens));
  }

  /** Forgets the tokens, here and where they were kept. The next log-in of this tab is another device. */
  end() {
    if (this.tokens?.stay) this.kept.removeItem(KEY);
    this.tokens = null;
    this.tab.removeItem(KEY);
    this.tab.removeItem(DEVICE_KEY);
  }

  /** True when the access token has run out, or nearly. */
  get isStale() {
    return this.tokens !== null && Date.parse(this.tokens.expires_at) - this.now() < RENEW_BEFORE_MS;
  }

  /**
   * An access token that will do. `refused` says that the server did not take the present one. `renew(refresh_token)`
   * asks for new ones; several callers at once share one renewal. Problem `unauthenticated` when the session is over.
   */
  async accessToken(renew, { refused = false } = {}) {
    if (this.tokens === null)
      throw new Problem({ code: "unauthenticated", status: 401, detail: "Please log in." });
    const isRecent = this.now() - this.#renewed_at < RENEW_AT_MOST_EVERY_MS;
    if (!refused && (!this.isStale || isRecent)) return this.tokens.access_token;
    this.#renewing ??= this.#renew(renew).finally(() => {
      this.#renewing = null;
    });
    await this.#renewing;
    return this.tokens.access_token;
  }

  async #renew(renew) {
    const before = this.tokens;
    const answer = await renew(before.refresh_token);
    if (this.tokens === null)
      throw new Problem({ code: "unauthenticated", status: 401, detail: "Please log in." });
    // Another tab of the same session may have been first: its tokens are the newer ones then.
    if (this.tokens.refresh_token === before.refresh_token) this.#write({ ...before, ...answer });
    this.#renewed_at = this.now();
  }
}

function openChannel() {
  return typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(CHANNEL);
}
