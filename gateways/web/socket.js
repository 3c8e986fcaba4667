// The WebSocket client: hello and catching up, holes, acknowledgements, reconnecting. It knows nothing of the page.

import { waitBeforeAttempt_ms } from "./backoff.js";
import { ConnectionLost, Problem } from "./problem.js";
import { SequenceBook } from "./sequence.js";

export const ANSWER_WAIT_MS = 15_000;
export const OPEN_WAIT_MS = 15_000;
export const SYNC_LIMIT = 500;
/** Rounds of one catching-up before the client gives up on it and asks for a fresh start. */
export const SYNC_ROUNDS_MAX = 50;
export const HAVE_NAMES_MAX = 1000;
const FLOODED_WAIT_MS = 60_000;
const HEARTBEAT_S = 30;

/** Close codes after which coming back by itself would be wrong, and what the owner is told. */
const FINAL = new Map([
  [4403, "session_ended"],
  [4409, "replaced"],
]);

const REAL_CLOCK = {
  now: () => Date.now(),
  later: (run, wait_ms) => globalThis.setTimeout(run, wait_ms),
  cancel: (timer) => globalThis.clearTimeout(timer),
};

/**
 * One connection that comes back. `listen(message)` gets, in order:
 * `status {status: offline|connecting|catching_up|online|waiting|stopped, retry_at?, reason?}`, `event {event}` (each
 * event of a conversation once, ascending), `restart {conversation_id}` (drop what you have of it and load anew),
 * `log_changed` (drop everything), `numbers {conversation_id, …}` (unread and read marks from a catching-up),
 * `hint {hint}` and `ended {reason: session_ended|replaced|unauthenticated}`.
 */
export class SocketClient {
  #socket = null;
  #state = "stopped";
  #attempt = 0;
  #hinted_ms = null;
  #retryTimer = null;
  #guardTimer = null;
  #heartbeatTimer = null;
  #answers = new Map();
  #reference = 0;
  #heard_at = 0;
  #heartbeat_ms = HEARTBEAT_S * 1000;
  #catchingUp = false;
  #tokenRefused = false;

  constructor({
    url,
    token,
    listen,
    WebSocket = globalThis.WebSocket,
    clock = REAL_CLOCK,
    random = Math.random,
  }) {
    this.url = url;
    this.token = token;
    this.listen = listen;
    this.WebSocket = WebSocket;
    this.clock = clock;
    this.random = random;
    this.book = new SequenceBook();
    this.logId = null;
  }

  get isOnline() {
    return this.#state === "online";
  }

  /** Starts, or comes back at once instead of after the wait. */
  connect() {
    if (this.#socket !== null) return;
    this.clock.cancel(this.#retryTimer);
    this.#open();
  }

  /** Closes for good; nothing comes back until `connect`. Requests under way end with ConnectionLost. */
  stop() {
    this.clock.cancel(this.#retryTimer);
    this.#leave(1000);
    this.#become("stopped");
  }

  /** The browser says that there is no network: close and wait for `connect`. */
  pause() {
    if (this.#state === "stopped") return;
    this.clock.cancel(this.#retryTimer);
    this.#leave(1000);
    this.#become("offline");
  }

  /**
   * Sends one operation and waits for its answer. Rejects with Problem when refused, ConnectionLost when the line
   * went away first (then nobody knows whether it happened: repeat it with the same key).
   */
  request(op, fields = {}) {
    if (this.#socket === null || (!this.isOnline && op !== "sync"))
      return Promise.reject(new ConnectionLost("not connected"));
    const ref = String(++this.#reference);
    return new Promise((resolve, reject) => {
      const timer = this.clock.later(() => this.#lose("no answer in time"), ANSWER_WAIT_MS);
      this.#answers.set(ref, { resolve, reject, timer });
      this.#write({ op, ref, ...fields });
    });
  }

  /** Sends a hint and expects no answer; does nothing when not connected. */
  tell(op, fields = {}) {
    if (this.isOnline) this.#write({ op, ...fields });
  }

  #become(state, more = {}) {
    this.#state = state;
    this.listen({ type: "status", status: state, ...more });
  }

  #write(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  async #open() {
    this.#become("connecting");
    let token;
    try {
      token = await this.token({ refused: this.#tokenRefused });
      this.#tokenRefused = false;
    } catch (error) {
      if (this.#state !== "connecting") return;
      if (error instanceof Problem && error.code === "unauthenticated") return this.#end("unauthenticated");
      return this.#retryLater(error.message);
    }
    if (this.#state !== "connecting" || this.#socket !== null) return;
    const socket = new this.WebSocket(this.url, ["minutebook.v1.json"]);
    this.#socket = socket;
    this.#guardTimer = this.clock.later(() => this.#lose("the server did not answer"), OPEN_WAIT_MS);
    socket.onopen = () => this.#sayHello(socket, token);
    socket.onmessage = (message) => socket === this.#socket && this.#hear(message.data);
    socket.onclose = (closed) => socket === this.#socket && this.#closed(closed.code, closed.reason);
  }

  #sayHello(socket, token) {
    if (socket !== this.#socket) return;
    const names = Object.entries(this.book.have()).slice(0, HAVE_NAMES_MAX);
    this.#catchingUp = names.length > 0;
    this.#write({ op: "hello", token, ...(names.length > 0 && { have: Object.fromEntries(names) }) });
  }

  #hear(text) {
    this.#heard_at = this.clock.now();
    const frame = JSON.parse(text);
    switch (frame.op) {
      case "welcome":
        return this.#welcomed(frame);
      case "event":
        return this.#liveEvent(frame);
      case "events":
        return frame.ref ? this.#answered(frame) : this.#helloPage(frame);
      case "behind":
        return this.#restart(frame.conversation_id, frame.head);
      case "ack":
        return this.#answered(frame);
      case "error":
        return this.#refused(frame);
      case "reconnect":
        return this.#drained(frame.after_ms ?? 0);
      case "pong":
        return undefined;
      default:
        return this.listen({ type: "hint", hint: frame });
    }
  }

  #welcomed(frame) {
    this.clock.cancel(this.#guardTimer);
    if (this.logId !== null && this.logId !== frame.log_id) {
      // Another history: our numbers mean nothing in it. Start again with empty hands.
      this.logId = frame.log_id;
      this.#leave(1000);
      this.book.clear();
      this.#attempt = 0;
      this.listen({ type: "log_changed" });
      return this.#retryLater("the server has another history now");
    }
    this.logId = frame.log_id;
    this.#heartbeat_ms = (frame.heartbeat_s ?? HEARTBEAT_S) * 1000;
    this.#beat();
    if (this.#catchingUp) this.#become("catching_up");
    else this.#arrived();
  }

  #arrived() {
    this.#catchingUp = false;
    this.#attempt = 0;
    this.#hinted_ms = null;
    this.#become("online");
  }

  #beat() {
    this.clock.cancel(this.#heartbeatTimer);
    this.#heartbeatTimer = this.clock.later(() => {
      if (this.clock.now() - this.#heard_at > 2 * this.#heartbeat_ms)
        return this.#lose("the server went silent");
      this.#write({ op: "ping" });
      this.#beat();
    }, this.#heartbeat_ms);
  }

  #helloPage(frame) {
    this.#takePage(frame);
    if (frame.complete !== false) this.#arrived();
  }

  /** One answer of catching up. Gives back the names that have more to come. */
  #takePage(frame) {
    const unfinished = [];
    for (const [conversation, part] of Object.entries(frame.conversations ?? {})) {
      if (part.reset) {
        this.#restart(conversation, part.head);
        continue;
      }
      const events = (part.events ?? []).map((event) => ({ ...event, conversation_id: conversation }));
      for (const event of this.book.caughtUp(conversation, events)) this.listen({ type: "event", event });
      const { unread, mentions, read_seq, head, first_seq, left = false } = part;
      const numbers = { unread, mentions, read_seq, head, first_seq, left };
      this.listen({ type: "numbers", conversation_id: conversation, ...numbers });
      if (part.complete === false) unfinished.push(conversation);
    }
    return unfinished;
  }

  #liveEvent(frame) {
    const { op: _, ...event } = frame;
    const wasWaiting = this.book.isWaiting(event.conversation_id);
    const verdict = this.book.live(event);
    if (verdict === "next") this.listen({ type: "event", event });
    else if (verdict === "hole" && !wasWaiting) this.#fillHole(event.conversation_id);
  }

  async #fillHole(conversation) {
    const socket = this.#socket;
    try {
      for (let round = 0; round < SYNC_ROUNDS_MAX; round += 1) {
        const have = { [conversation]: this.book.last(conversation) };
        const page = await this.request("sync", { have, only: true, limit: SYNC_LIMIT });
        const unfinished = this.#takePage(page);
        // Left out of the answer: we are not to see what is in the hole. Go on from what we were sent.
        if (page.conversations?.[conversation] === undefined)
          return this.#restart(conversation, this.book.newestHeld(conversation));
        if (unfinished.length > 0) continue;
        for (const event of this.book.release(conversation)) this.listen({ type: "event", event });
        if (!this.book.isWaiting(conversation)) return;
      }
      this.#lose("catching up did not end");
    } catch (error) {
      if (error instanceof ConnectionLost || socket !== this.#socket) return;
      this.#lose(error.message);
    }
  }

  #restart(conversation, head) {
    this.book.startAt(conversation, head);
    this.listen({ type: "restart", conversation_id: conversation, head });
  }

  #take(ref) {
    const waiting = this.#answers.get(ref);
    if (waiting === undefined) return null;
    this.#answers.delete(ref);
    this.clock.cancel(waiting.timer);
    return waiting;
  }

  #answered(frame) {
    this.#take(frame.ref)?.resolve(frame);
  }

  #refused(frame) {
    this.#take(frame.ref)?.reject(new Problem(frame.problem));
  }

  #drained(after_ms) {
    this.#hinted_ms = after_ms;
    this.#lose("the server is restarting");
  }

  /** Gives the line up from our side and comes back later. */
  #lose(reason) {
    this.#leave(1000);
    this.#retryLater(reason);
  }

  /** Lets go of the socket; whatever it still says is not ours any more. */
  #leave(code, problem = null) {
    const socket = this.#socket;
    this.#socket = null;
    this.clock.cancel(this.#guardTimer);
    this.clock.cancel(this.#heartbeatTimer);
    this.book.dropHeld();
    const answers = [...this.#answers.values()];
    this.#answers.clear();
    for (const { reject, timer } of answers) {
      this.clock.cancel(timer);
      reject(problem ?? new ConnectionLost());
    }
    if (socket !== null && socket.readyState <= 1) socket.close(code);
  }

  #closed(code, reason) {
    const wasWelcome = this.#state === "online" || this.#state === "catching_up";
    const tooLarge =
      code === 1009
        ? new Problem({ code: "too_large", status: 413, detail: "The message is too large." })
        : null;
    this.#leave(code, tooLarge);
    if (FINAL.has(code)) return this.#end(FINAL.get(code));
    if (code === 4400 && !wasWelcome) {
      // The server could not read what we claim to have: forget it rather than claim it for ever.
      this.book.clear();
      this.listen({ type: "log_changed" });
    }
    if (code === 4401) this.#tokenRefused = true;
    if (code === 4429) this.#hinted_ms = FLOODED_WAIT_MS;
    return this.#retryLater(reason, code);
  }

  #end(reason) {
    this.#become("stopped", { reason });
    this.listen({ type: "ended", reason });
  }

  #retryLater(reason, code = null) {
    const wait_ms = (this.#hinted_ms ?? 0) + waitBeforeAttempt_ms(this.#attempt, this.random);
    this.#attempt += 1;
    this.#hinted_ms = null;
    this.#become("waiting", { retry_at: this.clock.now() + wait_ms, reason: reason ?? "", code });
    this.clock.cancel(this.#retryTimer);
    this.#retryTimer = this.clock.later(() => this.connect(), wait_ms);
  }
}
