import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { Api } from "../../gateways/web/api.js";
import { Problem } from "../../gateways/web/problem.js";
import { Session } from "../../gateways/web/session.js";
import { fakeStorage } from "./helpers.mjs";

const NOW_MS = Date.parse("2026-03-01T10:00:00.000Z");
const tokens = (number, minutes = 15) => ({
  session_id: "s1",
  access_token: `access-${number}`,
  refresh_token: `refresh-${number}`,
  expires_at: new Date(NOW_MS + minutes * 60_000).toISOString(),
});

let tab;
let kept;
let now_ms;

beforeEach(() => {
  tab = fakeStorage();
  kept = fakeStorage();
  now_ms = NOW_MS;
});

const makeSession = (storage = tab) => new Session({ tab: storage, kept, now: () => now_ms, channel: null });

describe("a session", () => {
  it("is the tab's own", () => {
    const session = makeSession();
    session.begin("ana", tokens(1), { stay: false });
    assert.equal(makeSession().userId, "ana");
    assert.equal(makeSession(fakeStorage()).isSignedIn, false);
  });

  it("is taken up by other tabs when it is to stay", () => {
    const session = makeSession();
    session.begin("ana", tokens(1), { stay: true });
    const other = makeSession(fakeStorage());
    assert.equal(other.userId, "ana");
    assert.equal(other.deviceId, session.deviceId);
    session.end();
    assert.equal(makeSession(fakeStorage()).isSignedIn, false);
  });

  it("has one device id a tab", () => {
    const session = makeSession();
    assert.equal(session.deviceId, makeSession().deviceId);
    assert.notEqual(session.deviceId, makeSession(fakeStorage()).deviceId);
  });

  it("renews a token before it ends, once for all who wait", async () => {
    const session = makeSession();
    session.begin("ana", tokens(1, 0.5), { stay: false });
    const asked = [];
    const renew = async (refresh_token) => {
      asked.push(refresh_token);
      return tokens(2);
    };
    assert.deepEqual(await Promise.all([session.accessToken(renew), session.accessToken(renew)]), [
      "access-2",
      "access-2",
    ]);
    assert.deepEqual(asked, ["refresh-1"]);
    assert.equal(makeSession().tokens.refresh_token, "refresh-2");
  });

  it("does not renew on every call when the clock is wrong", async () => {
    const session = makeSession();
    session.begin("ana", tokens(1, -600), { stay: false });
    let asked = 0;
    const renew = async () => tokens(++asked + 1, -600);
    await session.accessToken(renew);
    await session.accessToken(renew);
    assert.equal(asked, 1);
  });
});

describe("the interface", () => {
  function makeApi(answers) {
    const session = makeSession();
    session.begin("ana", tokens(1), { stay: false });
    const calls = [];
    const fetch = async (address, init) => {
      calls.push({ address, ...init });
      const [status, body] = answers.shift();
      return { ok: status < 300, status, json: async () => body };
    };
    return { api: new Api({ session, fetch }), calls };
  }

  it("carries the token, and a key with every change", async () => {
    const { api, calls } = makeApi([
      [200, { data: { user_id: "ana" } }],
      [201, { data: { conversation_id: "c1" } }],
    ]);
    await api.me();
    assert.equal(calls[0].headers.Authorization, "Bearer access-1");
    assert.equal(calls[0].headers["Idempotency-Key"], undefined);
    await api.createGroup({ name: "Crew" });
    assert.match(calls[1].headers["Idempotency-Key"], /^[0-9a-f]{32}$/);
  });

  it("renews a refused token once and repeats the call with the same key", async () => {
    const refused = [401, { code: "unauthenticated", status: 401, detail: "expired" }];
    const { api, calls } = makeApi([refused, [200, { data: tokens(2) }], [201, { data: {} }]]);
    await api.leave("c1");
    assert.deepEqual(
      calls.map((call) => call.address),
      ["/v1/groups/c1/leave", "/v1/sessions/refresh", "/v1/groups/c1/leave"],
    );
    assert.equal(calls[2].headers.Authorization, "Bearer access-2");
    assert.equal(calls[2].headers["Idempotency-Key"], calls[0].headers["Idempotency-Key"]);
  });

  it("puts ids into paths safely", async () => {
    const { api, calls } = makeApi([[200, { data: {} }]]);
    await api.user("../a?b#c");
    assert.equal(calls[0].address, "/v1/users/..%2Fa%3Fb%23c");
  });

  it("follows the cursor of a list and stops at its bound", async () => {
    const endless = Array.from({ length: 30 }, () => [200, { data: [{ user_id: "u" }], next: "more" }]);
    const { api, calls } = makeApi([
      [200, { data: [1], next: "a" }],
      [200, { data: [2], next: null }],
      ...endless,
    ]);
    assert.deepEqual(await api.conversations(), { rows: [1, 2], complete: true });
    assert.match(calls[1].address, /cursor=a/);
    assert.equal((await api.conversations()).complete, false);
  });

  it("turns every refusal into a problem", async () => {
    const { api } = makeApi([
      [
        422,
        {
          code: "validation_failed",
          status: 422,
          detail: "No.",
          errors: [{ field: "name", message: "too long" }],
        },
      ],
      [502, null],
    ]);
    await assert.rejects(
      api.me(),
      (error) => error instanceof Problem && error.sentence === "No. (name: too long)",
    );
    await assert.rejects(api.me(), (error) => error instanceof Problem && error.status === 502);
  });
});
