// Names, members and presence: who is who, asked for once and only when somebody is on the screen.

/** Profiles asked for at the same time, and waiting for it. */
const ASKING_MAX = 4;
const WAITING_MAX = 300;
const PRESENCE_MAX = 500;

/** Fills the store's `users`, `members`, `groups` and `presence`. */
export class People {
  #waiting = [];
  #asked = new Set();
  #asking = 0;
  #subscribed = "";

  constructor({ store, api, tell }) {
    this.store = store;
    this.api = api;
    this.tell = tell;
  }

  /** Makes sure that these ids get names sooner or later. Ids already asked for cost nothing. */
  learn(ids) {
    for (const id of ids) {
      if (this.store.state.users[id] || this.#asked.has(id) || this.#waiting.length >= WAITING_MAX) continue;
      this.#asked.add(id);
      this.#waiting.push(id);
    }
    while (this.#asking < ASKING_MAX && this.#waiting.length > 0) this.#ask(this.#waiting.shift());
  }

  async #ask(id) {
    this.#asking += 1;
    try {
      const profile = await this.api.user(id);
      this.store.dispatch({ type: "users_loaded", people: [{ name: id, ...profile }] });
    } catch (error) {
      // Somebody who cannot be looked up goes by the id; a passing trouble may be asked again.
      if (error.passing) this.#asked.delete(id);
    } finally {
      this.#asking -= 1;
    }
    this.learn([]);
  }

  /** Forgets who has been asked for: another user may see other people. */
  clear() {
    this.#waiting = [];
    this.#asked.clear();
    this.#subscribed = "";
  }

  /** Settings and members of a group, for the names in its timeline and for its panel. */
  async loadGroup(id) {
    const group = await this.api.group(id);
    this.store.dispatch({ type: "group_loaded", id, group });
    const { rows, complete } = await this.api.members(id);
    this.store.dispatch({ type: "members_loaded", id, rows, complete });
    this.watch();
  }

  /** Subscribes to the presence of those who can be seen: the other sides of direct chats and the open group. */
  watch({ again = false } = {}) {
    const { conversations, members, open, me } = this.store.state;
    const peers = Object.values(conversations).map((conversation) => conversation.peer?.user_id);
    const people = Object.keys(members[open]?.people ?? {});
    const users = [...new Set([...peers, ...people])]
      .filter((user) => user && user !== me?.user_id)
      .slice(0, PRESENCE_MAX);
    const wanted = users.join(" ");
    if (!again && wanted === this.#subscribed) return;
    this.#subscribed = wanted;
    this.tell("presence", { users });
  }
}
