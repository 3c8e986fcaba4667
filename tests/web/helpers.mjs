// A clock that only moves when told, and a WebSocket that says only what the test says.

import { webcrypto } from "node:crypto";

// Node 18 keeps it out of the global scope, where every browser has it.
globalThis.crypto ??= webcrypto;

/** Timers that run when the test lets time pass. */
export class FakeClock {
  constructor() {
    this.time_ms = 1_000_000;
    this.timers = new Map();
    this.number = 0;
    this.now = () => this.time_ms;
    this.later = (run, wait_ms) => {
      this.timers.set(++this.number, { run, at: this.time_ms + wait_ms });
      return this.number;
    };
    this.cancel = (timer) => void this.timers.delete(timer);
  }

  /** Lets time pass, running what falls due in order. */
  async pass(wait_ms) {
    const end = this.time_ms + wait_ms;
    for (;;) {
      const due = [...this.timers]
        .filter(([, timer]) => timer.at <= end)
        .sort((a, b) => a[1].at - b[1].at)[0];
      if (due === undefined) break;
      this.timers.delete(due[0]);
      this.time_ms = due[1].at;
      due[1].run();
      await settle();
    }
    this.time_ms = end;
  }
}

/** Lets everything run that waits for nothing but a resolved promise. */
export async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

/** A class of sockets which remembers them: `Sockets.all`, newest last. */
export function fakeSockets() {
  return class FakeSocket {
    static all = [];
    static get newest() {
      return this.all.at(-1);
    }

    constructor(url, protocols) {
      Object.assign(this, { url, protocols, readyState: 0, sent: [] });
      this.constructor.all.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.readyState = 3;
      this.closedWith = code;
    }

    open() {
      this.readyState = 1;
      this.onopen();
    }

    say(frame) {
      this.onmessage({ data: JSON.stringify(frame) });
    }

    drop(code, reason = "") {
      this.readyState = 3;
      this.onclose({ code, reason });
    }

    sentOf(op) {
      return this.sent.filter((frame) => frame.op === op);
    }
  };
}

/** Storage as a page has it. */
export function fakeStorage() {
  const items = new Map();
  return {
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => void items.set(key, String(value)),
    removeItem: (key) => void items.delete(key),
  };
}

/** A `message_posted` event. */
export function posted(conversation_id, seq, actor, text, more = {}) {
  const data = {
    message_id: `m${seq}`,
    client_msg_id: `k${seq}`,
    ordinal: seq,
    content: { kind: "text", text },
    ...more,
  };
  return {
    conversation_id,
    seq,
    type: "message_posted",
    actor,
    at: `2026-03-01T10:00:${String(seq % 60).padStart(2, "0")}.000Z`,
    data,
  };
}
