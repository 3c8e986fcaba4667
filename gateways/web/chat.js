// The page's doings: ties the server's faces (api, socket) to the store. Views call these methods and nothing else.

import { Api } from "./api.js";
import { contentOfTyped, typedOf } from "./content.js";
import { History, peopleOf } from "./history.js";
import { freshId } from "./ids.js";
import { People } from "./people.js";
import { ConnectionLost } from "./problem.js";
import { Reading } from "./reading.js";
import { Sender } from "./sending.js";
import { Session } from "./session.js";
import { SocketClient } from "./socket.js";
import { createStore } from "./store.js";
import { mentionsIn } from "./text.js";
import { REACTION_USERS_SHOWN } from "./timeline.js";

const TOAST_MS = 8000;
const TYPING_AGAIN_MS = 3000;
const LAPSE_EVERY_MS = 1000;

const ENDED = {
  session_ended: "This session was ended. Please log in again.",
  replaced: "You logged in somewhere else with this device, so this page was disconnected.",
  unauthenticated: "Please log in again.",
};

function socketAddress() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/ws`;
}

/** One signed-in (or not yet signed-in) page. */
export class Chat {
  #typing = { id: null, told_at: 0 };
  #lapseTimer = null;
  #asked = new Set();

  constructor() {
    this.store = createStore();
    this.session = new Session();
    this.api = new Api({ session: this.session });
    this.socket = new SocketClient({
      url: socketAddress(),
      token: (options) => this.api.accessToken(options),
      listen: (message) => this.#hear(message),
    });
    const request = (op, fields) => this.socket.request(op, fields);
    const tell = (op, fields) => this.socket.tell(op, fields);
    this.people = new People({ store: this.store, api: this.api, tell });
    this.history = new History({
      store: this.store,
      api: this.api,
      learnNames: (ids) => this.people.learn(ids),
    });
    this.sender = new Sender({ store: this.store, request, isOnline: () => this.socket.isOnline });
    this.reading = new Reading({ store: this.store, request });
  }

  get state() {
    return this.store.state;
  }

  dispatch(happening) {
    this.store.dispatch(happening);
  }

  // --- signing in and out -------------------------------------------------------------------------------------------

  async signUp({ user_id, password, name, stay }) {
    await this.api.signUp({ user_id, password, name });
    await this.logIn({ user_id, password, stay });
  }

  async logIn(credentials) {
    await this.api.logIn(credentials);
    await this.begin();
  }

  /** Starts with the session of this tab: profile, list, then the socket with what the list already tells. */
  async begin() {
    this.dispatch({ type: "signed_in", me: { user_id: this.session.userId, name: this.session.userId } });
    this.sender.restore(this.session.userId);
    this.#lapseTimer ??= setInterval(() => this.dispatch({ type: "lapse", now: Date.now() }), LAPSE_EVERY_MS);
    await this.quietly(async () => {
      this.dispatch({ type: "profile_loaded", me: await this.api.me() });
      const { rows } = await this.api.blocks();
      this.dispatch({ type: "blocks_loaded", users: rows.map((row) => row.user_id) });
    });
    await this.quietly(() => this.loadInbox());
    if (!this.session.isSignedIn) return;
    this.socket.connect();
    this.onBegun?.();
  }

  async logOut() {
    await this.quietly(() => this.api.logOut());
    this.#end();
  }

  #end(reason = null) {
    this.socket.stop();
    this.socket.book.clear();
    this.socket.logId = null;
    this.session.end();
    this.people.clear();
    this.reading.clear();
    this.#asked.clear();
    this.dispatch({ type: "signed_out" });
    if (reason) this.toast(reason);
  }

  // --- what comes from the socket -----------------------------------------------------------------------------------

  #hear(message) {
    switch (message.type) {
      case "status":
        this.dispatch(message);
        if (message.status === "online") this.#cameOnline();
        return;
      case "event":
        return this.#event(message.event);
      case "hint":
        return this.dispatch({ ...message, now: Date.now() });
      case "numbers":
        return this.dispatch(message);
      case "restart":
        this.dispatch(message);
        this.quietly(() => this.loadConversation(message.conversation_id));
        return this.#fillOpen();
      case "log_changed":
        this.reading.clear();
        this.dispatch(message);
        return void this.quietly(() => this.loadInbox());
      case "ended":
        return this.#end(ENDED[message.reason]);
      default:
        throw new Error(`unknown message: ${message.type}`);
    }
  }

  async #cameOnline() {
    this.sender.pump();
    await this.quietly(() => this.loadInbox());
    this.people.watch({ again: true });
    this.#fillOpen();
  }

  #fillOpen() {
    const { open, timelines, conversations } = this.state;
    if (open && !timelines[open]?.loaded && conversations[open])
      this.quietly(() => this.history.newest(open));
  }

  #event(event) {
    this.dispatch({ type: "event", event });
    const id = event.conversation_id;
    if (id === "me") return;
    if (this.state.conversations[id] === undefined) this.#meetConversation(id, event.at);
    const isMine = event.data?.user_id === this.state.me?.user_id;
    if (isMine && event.type === "member_added") this.quietly(() => this.loadConversation(id));
    if (this.state.timelines[id] || this.state.members[id]) this.people.learn(peopleOf(event));
    if (event.type === "member_added" && id === this.state.open) this.people.watch();
    if (event.type.startsWith("reaction_")) this.#checkReaction(id, event);
  }

  /** Above the ten people that are listed, only the server knows whether this one was counted before. */
  #checkReaction(id, { data }) {
    const row = this.state.timelines[id]?.rows[data.target];
    const reaction = row?.reactions?.find((one) => one.emoji === data.emoji);
    if (reaction && reaction.count > REACTION_USERS_SHOWN)
      this.quietly(() => this.history.row(id, data.target));
  }

  #meetConversation(id, at) {
    if (this.#asked.has(id)) return;
    this.#asked.add(id);
    this.quietly(() => this.loadConversation(id, at)).finally(() => this.#asked.delete(id));
  }

  // --- conversations ------------------------------------------------------------------------------------------------

  async loadInbox() {
    const { rows } = await this.api.conversations();
    this.#haveRows(rows);
  }

  /** Fetches one conversation; `active_at` says when it was last heard of, if it has no messages. */
  async loadConversation(id, active_at) {
    const row = await this.api.conversation(id);
    this.#haveRows([row], active_at);
    return row;
  }

  #haveRows(rows, active_at) {
    for (const row of rows) this.socket.book.startUnlessCounting(row.conversation_id, row.head ?? 0);
    this.dispatch({ type: "inbox_loaded", rows, active_at });
    this.people.learn(rows.map((row) => row.last_message?.actor).filter(Boolean));
  }

  /** Opens a conversation on the screen; the address follows. */
  async open(id) {
    if (location.hash !== `#/c/${encodeURIComponent(id)}`) location.hash = `#/c/${encodeURIComponent(id)}`;
    if (this.state.open === id) return;
    if (this.state.conversations[id] === undefined) await this.loadConversation(id, new Date().toISOString());
    this.dispatch({ type: "opened", id });
    this.#fillOpen();
    const conversation = this.state.conversations[id];
    if (conversation.kind === "group" && !conversation.left && !this.state.members[id])
      this.quietly(() => this.people.loadGroup(id));
    this.people.watch();
  }

  close() {
    location.hash = "#/";
    this.dispatch({ type: "closed" });
  }

  async openDirect(user) {
    const { conversation_id } = await this.api.openDirect(user);
    await this.open(conversation_id);
  }

  async createGroup(group) {
    const { conversation_id } = await this.api.createGroup(group);
    await this.open(conversation_id);
  }

  /** Joins by id; true when an admin has to approve first. */
  async join(id, answer) {
    const result = await this.api.join(id, answer);
    if (result.pending) return true;
    await this.open(id);
    return false;
  }

  async acceptInvite(code) {
    const result = await this.api.acceptInvite(code);
    await this.open(result.conversation_id);
  }

  async jumpTo(id, seq) {
    await this.open(id);
    if (this.state.timelines[id]?.rows[seq] === undefined) await this.history.around(id, seq);
    this.dispatch({ type: "focus", seq });
  }

  // --- messages -----------------------------------------------------------------------------------------------------

  /** Sends what was typed: as an edit, an answer or a new message, whatever the composer is about. */
  async submit(id, typed) {
    const { editing, replyTo, timelines, members } = this.state;
    if (typed.trim() === "") return;
    const seq = editing[id];
    if (seq) {
      this.dispatch({ type: "editing", id, seq: null });
      if (typed === typedOf(timelines[id]?.rows[seq]?.content)) return;
      await this.operate("edit", { conversation_id: id, seq, content: contentOfTyped(typed) });
      return;
    }
    const people = members[id]?.people ?? {};
    const mentions = mentionsIn(typed, (user) => people[user] !== undefined);
    this.dispatch({ type: "reply_to", id, seq: null });
    this.typing(id, false);
    this.sender.send(id, contentOfTyped(typed), { reply_to: replyTo[id] ?? undefined, mentions });
  }

  /** Brings an own message back into the composer. */
  edit(id, row) {
    this.dispatch({ type: "editing", id, seq: row.seq });
    this.dispatch({ type: "draft", id, text: typedOf(row.content) ?? "" });
  }

  /** One operation of the socket that changes something; a refusal becomes a toast. */
  async operate(op, fields) {
    try {
      return await this.socket.request(op, { ...fields, key: freshId() });
    } catch (error) {
      this.toast(error instanceof ConnectionLost ? "Not connected: this was not done." : error.sentence);
      return null;
    }
  }

  react(id, row, emoji) {
    const mine = row.reactions?.some((reaction) => reaction.emoji === emoji && reaction.mine);
    return this.operate(mine ? "unreact" : "react", { conversation_id: id, seq: row.seq, emoji });
  }

  pin(id, row) {
    return this.operate(row.pinned ? "unpin" : "pin", { conversation_id: id, seq: row.seq });
  }

  recall(id, row) {
    return this.operate("recall", { conversation_id: id, seq: row.seq });
  }

  /** Tells the others that somebody types here, at most every three seconds. */
  typing(id, on) {
    const now = Date.now();
    const isSame = this.#typing.id === id;
    if (on && isSame && now - this.#typing.told_at < TYPING_AGAIN_MS) return;
    if (!on && !isSame) return;
    this.socket.tell("typing", { conversation_id: id, on });
    this.#typing = on ? { id, told_at: now } : { id: null, told_at: 0 };
  }

  // --- small things -------------------------------------------------------------------------------------------------

  toast(text, kind = "problem") {
    const id = freshId();
    this.dispatch({ type: "toast", toast: { id, text, kind } });
    setTimeout(() => this.dispatch({ type: "toast_gone", id }), TOAST_MS);
  }

  /** Runs something whose refusal the person should see, but nothing else depends on. Gives back its result or null. */
  async quietly(run) {
    try {
      return await run();
    } catch (error) {
      if (error.code === "unauthenticated") this.#end(ENDED.unauthenticated);
      else this.toast(error.sentence ?? error.message);
      return null;
    }
  }
}
