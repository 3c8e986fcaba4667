// What opens over the page: starting conversations, earlier texts, the profile, and "are you sure".

import { typedOf, summaryOf } from "../content.js";
import { fullTime } from "../format.js";
import { html, useChat, useEffect, useRef, useState } from "../html.js";
import { Avatar, Dialog, Field, Form, Name, Tabs } from "./common.js";
import { idsIn, JOIN_WORDS } from "./panel.js";

const SEARCH_WAIT_MS = 250;

/** Somebody by name or id: the directory as one types. */
function NewDirect({ onDone }) {
  const chat = useChat();
  const [query, setQuery] = useState("");
  const [rows, setRows] = useState([]);
  const latest = useRef("");
  useEffect(() => {
    latest.current = query;
    if (query.trim() === "") return setRows([]);
    const timer = setTimeout(async () => {
      const found = await chat.quietly(() => chat.api.directory(query.trim()));
      if (latest.current === query) setRows(found ?? []);
    }, SEARCH_WAIT_MS);
    return () => clearTimeout(timer);
  }, [query]);
  const open = async (user) => {
    await chat.openDirect(user);
    onDone();
  };
  return html`<${Form} onSubmit=${({ user }) => open(user.trim().toLowerCase())} label="Open">
    <${Field} label="Person" name="user" value=${query}
        onInput=${(event) => setQuery(event.currentTarget.value)} placeholder="User id or name"
        autocomplete="off" autocapitalize="none" autofocus required />
    <ul class="people" aria-label="Matches">${rows.map(
      (
        row,
      ) => html`<li key=${row.user_id}><button type="button" class="member-line"
          onClick=${() => chat.quietly(() => open(row.user_id))}>
      <${Avatar} id=${row.user_id} name=${row.name} size="small" /><span class="stack"><${Name}
          text=${row.name} /><small><bdi>${row.user_id}</bdi></small></span></button></li>`,
    )}</ul>
  <//>`;
}

function NewGroup({ onDone }) {
  const chat = useChat();
  const create = async ({ name, join, members }) => {
    const ids = idsIn(members);
    await chat.createGroup({ name: name.trim(), join, ...(ids.length > 0 && { members: ids }) });
    onDone();
  };
  return html`<${Form} onSubmit=${create} label="Create group">
    <${Field} label="Name" name="name" maxlength="128" required autofocus />
    <${Field} label="Members" name="members" placeholder="ana, bo, chen" autocapitalize="none"
        hint="User ids, with commas or spaces between; may be empty" />
    <label class="field"><span>Joining</span><select
        name="join">${Object.entries(JOIN_WORDS).map(([value, words]) => html`<option value=${value}
        selected=${value === "closed"}>${words}</option>`)}</select></label>
  <//>`;
}

function JoinGroup({ onDone }) {
  const chat = useChat();
  const join = async ({ group }) => {
    const isPending = await chat.join(group.trim());
    if (isPending) chat.toast("Asked to join. An admin has to approve.", "done");
    onDone();
  };
  const accept = async ({ code }) => {
    await chat.acceptInvite(code.trim());
    onDone();
  };
  return html`<${Form} onSubmit=${join} label="Join"><${Field} label="Group id"
      name="group" required autofocus autocomplete="off" hint="Of a group that anyone may join" /><//>
    <hr />
    <${Form} onSubmit=${accept} label="Accept invite"><${Field} label="Invite code" name="code" required
        autocomplete="off" /><//>`;
}

function NewConversation({ onClose }) {
  const [kind, setKind] = useState("direct");
  const Body = { direct: NewDirect, group: NewGroup, join: JoinGroup }[kind];
  return html`<${Dialog} title="New conversation" onClose=${onClose}>
    <${Tabs} label="What to start" chosen=${kind} onChoose=${setKind} tabs=${[
      ["direct", "Person"],
      ["group", "Group"],
      ["join", "Join"],
    ]} />
    <${Body} key=${kind} onDone=${onClose} />
  <//>`;
}

function Edits({ dialog, onClose }) {
  const chat = useChat();
  const [rows, setRows] = useState(null);
  useEffect(() => {
    chat.quietly(async () => setRows(await chat.api.edits(dialog.id, dialog.seq)));
  }, []);
  return html`<${Dialog} title="Earlier texts" onClose=${onClose}>
    ${
      rows === null
        ? html`<p class="empty">Loading…</p>`
        : html`<ol class="edits">${rows.map(
            (row) => html`<li key=${row.at}><time>${fullTime(row.at)}</time>
      <bdi class="words" dir="auto">${typedOf(row.content) ?? summaryOf(row)}</bdi></li>`,
          )}</ol>`
    }
    ${rows?.length === 0 && html`<p class="empty">No earlier texts.</p>`}
  <//>`;
}

function Profile({ state, onClose }) {
  const chat = useChat();
  const save = async ({ name }) => {
    await chat.api.changeMe({ name: name.trim() });
    chat.dispatch({ type: "profile_loaded", me: { name: name.trim() } });
    onClose();
  };
  return html`<${Dialog} title="Your profile" onClose=${onClose}>
    <p class="hint">Signed in as <bdi>${state.me.user_id}</bdi></p>
    <${Form} onSubmit=${save} label="Save"><${Field} label="Name" name="name" defaultValue=${state.me.name}
        maxlength="128" required autofocus /><//>
  <//>`;
}

function Alias({ dialog, onClose }) {
  const chat = useChat();
  const save = async ({ alias }) => {
    await chat.api.changeMember(dialog.id, dialog.user, { alias: alias.trim() });
    onClose();
  };
  return html`<${Dialog} title="Alias in this group" onClose=${onClose}>
    <${Form} onSubmit=${save} label="Save"><${Field} label=${`Alias of ${dialog.user}`} name="alias"
        defaultValue=${dialog.alias} maxlength="128" autofocus required /><//>
  <//>`;
}

function Confirm({ dialog, onClose }) {
  const run = async () => {
    await dialog.run();
    onClose();
  };
  return html`<${Dialog} title=${dialog.title} onClose=${onClose}>
    <${Form} onSubmit=${run}><p><bdi>${dialog.text}</bdi></p>
      <div class="choices"><button type="button" onClick=${onClose} autofocus>Cancel</button><button
          type="submit" class="primary danger">${dialog.title}</button></div><//>
  <//>`;
}

const DIALOGS = { new: NewConversation, edits: Edits, profile: Profile, confirm: Confirm, alias: Alias };

export function OpenDialog({ state }) {
  const chat = useChat();
  if (state.dialog === null) return null;
  const View = DIALOGS[state.dialog.name];
  return html`<${View} state=${state} dialog=${state.dialog}
      onClose=${() => chat.dispatch({ type: "dialog", dialog: null })} />`;
}
