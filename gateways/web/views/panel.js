// The panel beside a conversation: what it is, who is in it, and what its reader may do about that.

import { counted, shortTime } from "../format.js";
import { html, Icon, useChat, useState } from "../html.js";
import { inOrder, isOfficer, labelOf, mayActOn } from "../roster.js";
import { Avatar, Field, Form, Name } from "./common.js";

const MEMBERS_DRAWN_MAX = 300;
const HOUR_MS = 3_600_000;

export const JOIN_WORDS = {
  open: "Anyone may join",
  approval: "Admins approve",
  invite: "By invite only",
  closed: "Closed",
};

function Member({ id, member, group, state }) {
  const chat = useChat();
  const [isOpen, setOpen] = useState(false);
  const me = state.me.user_id;
  const isMe = member.user_id === me;
  const mayAct = !isMe && mayActOn(group.my_role, member.role);
  const isOwner = group.my_role === "owner" && !isMe;
  const isMuted = member.muted_until && Date.parse(member.muted_until) > Date.now();
  const act = (run) => () => {
    setOpen(false);
    chat.quietly(run);
  };
  const confirm = (title, text, run) => () => {
    setOpen(false);
    chat.dispatch({ type: "dialog", dialog: { name: "confirm", title, text, run } });
  };
  const { api } = chat;
  const user = member.user_id;
  const name = labelOf(member);
  return html`<li class="member">
    <button type="button" class="member-line" aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>
      <${Avatar} id=${user} name=${name} online=${isMe ? true : (state.presence[user]?.online ?? false)}
          size="small" />
      <span class="stack"><${Name}
          text=${name} /><small><bdi>${user}</bdi>${isMuted && " · muted"}</small></span>
      ${member.role !== "member" && html`<span class="tag">${member.role}</span>`}
    </button>
    ${
      isOpen &&
      html`<div class="actions">
      ${!isMe && html`<button type="button" onClick=${act(() => chat.openDirect(user))}>Message</button>`}
      ${
        (isMe || isOfficer(group.my_role)) &&
        html`<button type="button" onClick=${() => {
          setOpen(false);
          chat.dispatch({ type: "dialog", dialog: { name: "alias", id, user, alias: member.alias ?? "" } });
        }}>Alias…</button>`
      }
      ${
        isOwner &&
        html`<button type="button"
            onClick=${act(() => api.changeMember(id, user, { role: member.role === "admin" ? "member" : "admin" }))}>
        ${member.role === "admin" ? "Make member" : "Make admin"}</button>`
      }
      ${
        mayAct &&
        html`<button type="button"
            onClick=${act(() => api.changeMember(id, user, { muted_until: isMuted ? null : new Date(Date.now() + HOUR_MS).toISOString() }))}>
        ${isMuted ? "Unmute" : "Mute for an hour"}</button>`
      }
      ${isOwner && html`<button type="button"
          onClick=${confirm("Transfer the group", `${name} becomes the owner and you an admin.`, () => api.transfer(id, user))}>Make owner…</button>`}
      ${mayAct && html`<button type="button" class="danger"
          onClick=${confirm("Remove from the group", `${name} will get nothing of this group any more.`, () => api.removeMember(id, user))}>Remove…</button>`}
    </div>`
    }
  </li>`;
}

function Members({ id, group, state }) {
  const chat = useChat();
  const [filter, setFilter] = useState("");
  const members = state.members[id];
  if (!members) return html`<p class="empty">Loading…</p>`;
  const wanted = filter.toLowerCase();
  const rows = inOrder(members.people).filter(
    (row) => row.user_id.includes(wanted) || labelOf(row).toLowerCase().includes(wanted),
  );
  const mayAdd = isOfficer(group.my_role) || (group.my_role && group.members_may_add);
  return html`<section
      aria-label="Members"><h3>${counted(group.member_count ?? rows.length, "member", "members")}</h3>
    ${
      mayAdd &&
      html`<${Form} key=${Object.keys(members.people).length}
          onSubmit=${({ users }) => chat.api.addMembers(id, idsIn(users))}>
      <div class="inline"><input name="users" aria-label="User ids to add" placeholder="Add by user id"
          autocomplete="off" autocapitalize="none" required />
      <button type="submit">Add</button></div><//>`
    }
    ${rows.length > 12 || filter ? html`<input type="search" class="filter" aria-label="Filter members"
        placeholder="Filter" value=${filter}
        onInput=${(event) => setFilter(event.currentTarget.value)} />` : null}
    <ul class="members">${rows.slice(0, MEMBERS_DRAWN_MAX).map((member) => html`<${Member}
        key=${member.user_id} id=${id} member=${member} group=${group} state=${state} />`)}</ul>
    ${(rows.length > MEMBERS_DRAWN_MAX || !members.complete) && html`<p
        class="hint">Not everybody is shown; filter to find somebody.</p>`}
  </section>`;
}

/** User ids typed with spaces or commas between them. */
export function idsIn(text) {
  return [
    ...new Set(
      text
        .toLowerCase()
        .split(/[\s,;]+/)
        .filter(Boolean),
    ),
  ];
}

function Invites({ id }) {
  const chat = useChat();
  const [rows, setRows] = useState(null);
  const [made, setMade] = useState(null);
  const load = async () => setRows((await chat.api.invites(id)).rows);
  const make = async ({ max_uses }) => {
    const limits = max_uses ? { max_uses: Number(max_uses) } : {};
    setMade(await chat.api.createInvite(id, limits));
    await load();
  };
  return html`<details onToggle=${(event) => event.currentTarget.open && rows === null && chat.quietly(load)}>
    <summary>Invites</summary>
    <${Form} onSubmit=${make}><div class="inline"><input name="max_uses" type="number" min="1"
        placeholder="Uses (no limit)" aria-label="How often the invite may be used" /><button
        type="submit">Create</button></div><//>
    ${made && html`<p class="made" role="status">Code, shown once:<br /><code>${made.code}</code></p>`}
    <ul class="plain">${(rows ?? []).map(
      (
        row,
      ) => html`<li
          key=${row.invite_id}><span>${row.uses ?? 0}${row.max_uses ? ` of ${row.max_uses}` : ""} used${row.expires_at ? `, until ${shortTime(row.expires_at)}` : ""}</span>
      <button type="button" class="link" onClick=${() =>
        chat.quietly(async () => {
          await chat.api.revokeInvite(id, row.invite_id);
          await load();
        })}>Revoke</button></li>`,
    )}</ul>
  </details>`;
}

function Settings({ id, group }) {
  const chat = useChat();
  const save = async ({ name, description, announcement, join, history_visible, members_may_add }) => {
    const wanted = {
      name: name.trim(),
      description: description.trim(),
      announcement: announcement.trim(),
      join,
      history_visible: history_visible === "on",
      members_may_add: members_may_add === "on",
    };
    const changes = Object.fromEntries(
      Object.entries(wanted).filter(([field, value]) => value !== (group[field] ?? "")),
    );
    if (Object.keys(changes).length === 0) return;
    await chat.api.changeGroup(id, changes);
    chat.toast("Saved.", "done");
  };
  return html`<details><summary>Group settings</summary>
    <${Form} key=${JSON.stringify([group.name, group.description, group.announcement, group.join])}
        onSubmit=${save} label="Save">
      <${Field} label="Name" name="name" defaultValue=${group.name} maxlength="128" required />
      <${Field} label="Description" name="description" defaultValue=${group.description ?? ""} />
      <${Field} label="Announcement" name="announcement" defaultValue=${group.announcement ?? ""} />
      <label class="field"><span>Joining</span><select
          name="join">${Object.entries(JOIN_WORDS).map(([value, words]) => html`<option value=${value}
          selected=${group.join === value}>${words}</option>`)}</select></label>
      <label class="check"><input type="checkbox" name="history_visible"
          defaultChecked=${group.history_visible} /> New members see earlier messages</label>
      <label class="check"><input type="checkbox" name="members_may_add"
          defaultChecked=${group.members_may_add} /> Members may add others</label>
    <//>
  </details>`;
}

function GroupDetails({ state, id, group }) {
  const chat = useChat();
  const conversation = state.conversations[id];
  const officer = isOfficer(group.my_role);
  const confirm = (title, text, run) =>
    chat.dispatch({ type: "dialog", dialog: { name: "confirm", title, text, run } });
  const isOver = conversation.left || group.dissolved;
  return html`${group.description && html`<p class="description"><bdi
      dir="auto">${group.description}</bdi></p>`}
    <p class="hint">${JOIN_WORDS[group.join] ?? ""} · id <code class="copy">${id}</code></p>
    ${officer && !isOver && html`<${Settings} id=${id} group=${group} /><${Invites} id=${id} />`}
    ${!isOver && html`<${Members} id=${id} group=${group} state=${state} />`}
    ${
      !isOver &&
      html`<section class="actions end" aria-label="Group actions">
      ${officer && html`<button type="button"
          onClick=${() => chat.quietly(() => (group.muted ? chat.api.unmuteGroup(id) : chat.api.muteGroup(id)))}>${group.muted ? "Let everybody write" : "Only admins may write"}</button>`}
      ${group.my_role !== "owner" && html`<button type="button" class="danger"
          onClick=${() => confirm("Leave the group", "You keep what you have seen and get nothing new.", () => chat.api.leave(id))}>Leave…</button>`}
      ${group.my_role === "owner" && html`<button type="button" class="danger"
          onClick=${() => confirm("Dissolve the group", "Nobody can write any more; the history stays readable.", () => chat.api.dissolve(id))}>Dissolve…</button>`}
    </section>`
    }`;
}

function DirectDetails({ state, peer }) {
  const chat = useChat();
  const isBlocked = state.blocks[peer];
  const change = () =>
    chat.quietly(async () => {
      await (isBlocked ? chat.api.unblock(peer) : chat.api.block(peer));
      chat.dispatch({ type: "blocked", user: peer, on: !isBlocked });
    });
  const seen = state.presence[peer]?.last_seen;
  return html`<p class="hint">id <code
      class="copy">${peer}</code>${seen && html` · last seen ${shortTime(seen)}`}</p>
    <section class="actions end"><button type="button" class=${isBlocked ? "" : "danger"}
        onClick=${change}>${isBlocked ? "Unblock" : "Block"}</button></section>`;
}

function Personal({ id, conversation }) {
  const chat = useChat();
  const set = (settings) =>
    chat.quietly(async () => {
      await chat.api.setConversation(id, settings);
      chat.dispatch({ type: "numbers", conversation_id: id, ...settings });
    });
  return html`<section class="switches" aria-label="For you">
    <label class="check"><input type="checkbox" checked=${conversation.pinned ?? false}
        onChange=${(event) => set({ pinned: event.currentTarget.checked })} /> Keep at the top</label>
    <label class="check"><input type="checkbox" checked=${conversation.muted ?? false}
        onChange=${(event) => set({ muted: event.currentTarget.checked })} /> Mute for me</label>
  </section>`;
}

export function Panel({ state, id }) {
  const chat = useChat();
  const conversation = state.conversations[id];
  const group = state.groups[id];
  const peer = conversation.peer?.user_id;
  return html`<aside class="panel" aria-label="Details"
      onKeyDown=${(event) => event.key === "Escape" && chat.dispatch({ type: "panel", panel: "details" })}>
    <header><h2>Details</h2><button type="button" class="quiet" aria-label="Close details"
        onClick=${() => chat.dispatch({ type: "panel", panel: "details" })}><${Icon}
        name="close" /></button></header>
    <${Personal} id=${id} conversation=${conversation} />
    ${conversation.kind === "group" && (group ? html`<${GroupDetails} state=${state} id=${id}
        group=${group} />` : html`<p class="empty">Loading…</p>`)}
    ${conversation.kind === "direct" && peer && peer !== state.me.user_id && html`<${DirectDetails}
        state=${state} peer=${peer} />`}
  </aside>`;
}
