// One open conversation: its head, announcement, messages, who is typing, and the composer.

import { counted } from "../format.js";
import { html, Icon, useChat, useMemo } from "../html.js";
import { titleOf } from "../inbox.js";
import { isOfficer, labelOf } from "../roster.js";
import { EMPTY_TIMELINE } from "../timeline.js";
import { Avatar, Name } from "./common.js";
import { Composer } from "./composer.js";
import { Panel } from "./panel.js";
import { Timeline } from "./timeline.js";

/** Names as this conversation knows them: alias, name, id. A new function only when a name changed. */
function useNames({ members, users, me }, id) {
  const people = members[id]?.people;
  return useMemo(
    () => (user) => {
      if (people?.[user]) return labelOf(people[user]);
      return (user === me.user_id ? me.name : users[user]?.name) || user;
    },
    [people, users, me],
  );
}

function subtitleOf(conversation, { groups, presence, me, blocks }) {
  if (conversation.kind === "direct") {
    const peer = conversation.peer?.user_id;
    if (!peer || peer === me.user_id) return "Only you see these";
    if (blocks[peer]) return "Blocked";
    return presence[peer]?.online ? "online" : peer;
  }
  const group = groups[conversation.conversation_id];
  if (conversation.dissolved || group?.dissolved) return "dissolved";
  if (conversation.left) return "you are not a member any more";
  return group?.member_count ? counted(group.member_count, "member", "members") : "";
}

/** Why the reader cannot write here, or null. */
function refusalOf(conversation, { groups, blocks, members, me }) {
  const id = conversation.conversation_id;
  const group = groups[id];
  if (conversation.dissolved || group?.dissolved)
    return "This group was dissolved. Its history stays readable.";
  if (conversation.left) return "You are not a member of this group any more.";
  if (blocks[conversation.peer?.user_id]) return "You have blocked this person. Unblock them to write.";
  if (group?.muted && !isOfficer(group.my_role)) return "Only admins may write while the group is muted.";
  const until = members[id]?.people[me.user_id]?.muted_until;
  return until && Date.parse(until) > Date.now() ? "You have been muted in this group." : null;
}

function Typists({ state, id, nameOf }) {
  const names = Object.keys(state.typing[id] ?? {}).map(nameOf);
  const words = names.length > 3 ? [`${names.length} people`] : names;
  return html`<p class="typing" aria-live="off">${
    names.length > 0 &&
    html`<span class="dots" aria-hidden="true"><i></i><i></i><i></i></span>
    ${words.map((name, index) => html`${index > 0 && ", "}<bdi>${name}</bdi>`)} ${names.length === 1 ? "is" : "are"} typing…`
  }</p>`;
}

function Head({ state, conversation, title }) {
  const chat = useChat();
  const peer =
    conversation.kind === "direct" && conversation.peer?.user_id !== state.me.user_id
      ? conversation.peer?.user_id
      : null;
  return html`<header class="conversation-head">
    <button type="button" class="quiet back" aria-label="Back to the list"
        onClick=${() => chat.close()}><${Icon} name="back" /></button>
    <${Avatar} id=${peer ?? conversation.conversation_id} name=${title}
        online=${peer ? (state.presence[peer]?.online ?? false) : undefined}
      size=${conversation.kind === "group" ? "square" : ""} />
    <div class="stack"><h1><${Name}
        text=${title} /></h1><small><bdi>${subtitleOf(conversation, state)}</bdi></small></div>
    <button type="button" class=${`quiet ${state.panel ? "chosen" : ""}`} aria-pressed=${state.panel !== null}
        id="toggle-panel"
      aria-label="Details and members" title="Details and members"
          onClick=${() => chat.dispatch({ type: "panel", panel: "details" })}><${Icon}
          name="people" /></button>
  </header>`;
}

export function Conversation({ state }) {
  const chat = useChat();
  const id = state.open;
  const conversation = state.conversations[id];
  const timeline = state.timelines[id] ?? EMPTY_TIMELINE;
  const nameOf = useNames(state, id);
  const group = state.groups[id];
  const title = titleOf(conversation, state.me.user_id);
  const me = state.me.user_id;
  const lastOwn = useMemo(
    () => [...timeline.order].reverse().find((seq) => timeline.rows[seq]?.actor === me),
    [timeline, me],
  );
  const canAct = !conversation.left && !conversation.dissolved;
  return html`<main class="main" aria-label=${title}>
    <${Head} state=${state} conversation=${conversation} title=${title} />
    ${group?.announcement && html`<p class="announcement"><${Icon} name="bell" /><bdi
        dir="auto">${group.announcement}</bdi></p>`}
    <${Timeline} key=${id} id=${id} state=${state} timeline=${timeline} nameOf=${nameOf} chat=${chat}
        lastOwn=${lastOwn} canAct=${canAct}
      isOfficer=${isOfficer(group?.my_role)}
          mayPin=${conversation.kind === "direct" || isOfficer(group?.my_role)} />
    <${Typists} state=${state} id=${id} nameOf=${nameOf} />
    <${Composer} state=${state} id=${id} timeline=${timeline} nameOf=${nameOf}
        refusal=${refusalOf(conversation, state)} />
  </main>
  ${state.panel && html`<${Panel} state=${state} id=${id} nameOf=${nameOf} />`}`;
}
