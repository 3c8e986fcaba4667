import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { cardOf, contentOfTyped, summaryOf, typedOf } from "../../gateways/web/content.js";
import { mentionBeforeCursor, mentionsIn, pieces } from "../../gateways/web/text.js";
import { dayLabel, hueOf, initialOf, shortTime } from "../../gateways/web/format.js";
import { sentenceOf } from "../../gateways/web/notices.js";

const HOSTILE = [
  "<img src=x onerror=alert(1)>",
  "javascript:alert(1)",
  "https://a\u202egpj.exe",
  "https://user:secret@evil.example/",
  "https://",
  "http://[::1",
  "a@b@c@d",
  "@@@",
  "((https://x.y/((a)",
  "\u0000",
  "https://例え.テスト/パス",
  "data:text/html,<script>",
  'http://a.b/"onclick="x',
];
const known =
  (...ids) =>
  (id) =>
    ids.includes(id);
const links = (text) =>
  pieces(text)
    .filter((piece) => piece.type === "link")
    .map((piece) => piece.text);

describe("pieces", () => {
  it("joined are the text, whatever it is", () => {
    for (const text of HOSTILE)
      assert.equal(
        pieces(text, () => true)
          .map((piece) => piece.text)
          .join(""),
        text,
      );
  });

  it("link only to the web, and never with a name in front of the host", () => {
    for (const text of HOSTILE)
      for (const piece of pieces(text))
        if (piece.type === "link") assert.match(piece.href, /^https?:\/\/[^@]+$/);
    assert.deepEqual(links("https://user:secret@evil.example/"), []);
  });

  it("leave the sentence's punctuation out of a link", () => {
    assert.deepEqual(links("See https://a.example/b. And (https://a.example/c), https://a.example/d(e)!"), [
      "https://a.example/b",
      "https://a.example/c",
      "https://a.example/d(e)",
    ]);
  });

  it("mention those who can be meant", () => {
    const [piece] = pieces("@bo.", known("bo")).filter((one) => one.type === "mention");
    assert.deepEqual(piece, { type: "mention", text: "@bo", user_id: "bo" });
    assert.deepEqual(mentionsIn("@Bo and @bo, mail@bo, @nobody, (@chen)", known("bo", "chen")), [
      "bo",
      "chen",
    ]);
    assert.deepEqual(mentionsIn("@j.doe. @j", known("j.doe")), ["j.doe"]);
    assert.deepEqual(mentionsIn("@all @bo", known("bo")), ["all"]);
  });
});

describe("completion", () => {
  it("is about the name at the cursor", () => {
    assert.deepEqual(mentionBeforeCursor("hi @ch", 6), { start: 3, query: "ch" });
    assert.deepEqual(mentionBeforeCursor("@", 1), { start: 0, query: "" });
    assert.equal(mentionBeforeCursor("mail@ch", 7), null);
    assert.equal(mentionBeforeCursor("@ch is", 6), null);
  });
});

describe("content", () => {
  it("knows actions as they are typed", () => {
    assert.deepEqual(contentOfTyped("/me waves"), { kind: "action", text: "waves" });
    assert.deepEqual(contentOfTyped("/me"), { kind: "text", text: "/me" });
    assert.equal(typedOf(contentOfTyped("/me waves")), "/me waves");
    assert.equal(typedOf({ kind: "vote" }), null);
  });

  it("has a card for every kind, known or not", () => {
    const kinds = [
      { kind: "image", media_id: "m" },
      { kind: "audio", media_id: "m" },
      { kind: "video", media_id: "m" },
      { kind: "file", media_id: "m", name: "a.pdf" },
      { kind: "location", latitude: 1, longitude: 2 },
      { kind: "contact_card", user_id: "bo" },
      { kind: "quote", conversation_id: "c", seq: 1 },
      { kind: "forward", messages: [] },
      { kind: "call", action: "invite", media: "audio", call_id: "1" },
      { kind: "voip", session_id: "1", payload: {} },
      { kind: "vote", question: "q", options: ["a", "b"], multiple: false },
      { kind: "reminder", text: "t", at: "2026-01-01T00:00:00.000Z" },
      { kind: "red_envelope", envelope_id: "1" },
      { kind: "custom", data: [1] },
      { kind: "notification" },
      { kind: "system" },
      { kind: "hologram", x: 1 },
    ];
    for (const content of kinds) {
      const { label, body } = cardOf(content);
      assert.ok(label);
      assert.equal(typeof body, "string");
      assert.ok(summaryOf({ content }));
    }
  });

  it("says that a recalled message is gone", () => {
    assert.equal(summaryOf({ content: null, recalled: true }), "message recalled");
    assert.equal(summaryOf({ content: { kind: "text", text: "a\n\n  b" } }), "a b");
  });
});

describe("formats", () => {
  const now = new Date(2026, 2, 10, 12, 0);

  it("name the day", () => {
    assert.equal(dayLabel(new Date(2026, 2, 10, 1), now), "Today");
    assert.equal(dayLabel(new Date(2026, 2, 9, 23), now), "Yesterday");
    assert.match(dayLabel(new Date(2026, 1, 1), now), /2026/);
    assert.match(shortTime(new Date(2026, 2, 10, 9, 5), now), /09[:.]05/);
    assert.equal(shortTime(undefined, now), "");
  });

  it("take whole signs for initials", () => {
    assert.equal(initialOf("ana"), "A");
    assert.equal(initialOf("👩‍👩‍👧 family").length > 0, true);
    assert.equal(initialOf("<img>"), "I");
    assert.equal(initialOf("***"), "*");
    assert.ok(hueOf("ana") >= 0 && hueOf("ana") < 8);
  });
});

describe("notices", () => {
  const said = (user_id, via) =>
    sentenceOf({ type: "member_added", actor: "ann", data: { user_id, via } }, (id) => id.toUpperCase())
      .map((part) => part.text ?? part)
      .join("");

  it("name who was added, also by the founding of the group", () => {
    assert.equal(said("bob", "created"), "added BOB");
    assert.equal(said("bob", "added"), "added BOB");
    assert.equal(said("ann", "created"), "opened the group");
    assert.equal(said("ann", "added"), "was added");
    assert.equal(said("ann", "joined"), "joined");
  });
});
