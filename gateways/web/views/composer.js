// Where messages are written: answers, edits, drafts, and names completed after an @.

import { summaryOf, typedOf } from "../content.js";
import { html, Icon, useChat, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { inOrder, labelOf } from "../roster.js";
import { mentionBeforeCursor } from "../text.js";
import { Avatar, Name } from "./common.js";

const COMPLETIONS_MAX = 8;

function completionsFor(found, members, isGroup) {
  if (found === null || !isGroup) return [];
  const all = { user_id: "all", name: "everybody here" };
  const fits = (member) => member.user_id.startsWith(found.query) || labelOf(member).toLowerCase().includes(found.query);
  return [...inOrder(members), all].filter(fits).slice(0, COMPLETIONS_MAX);
}

function Completions({ rows, chosen, onPick }) {
  if (rows.length === 0) return null;
  return html`<ul class="completions" role="listbox" id="completions" aria-label="People">
    ${rows.map((row, index) => html`<li key=${row.user_id} role="option" id=${`completion-${index}`} aria-selected=${index === chosen} class=${index === chosen ? "chosen" : ""}
      onMouseDown=${(event) => { event.preventDefault(); onPick(row); }}>
      <${Avatar} id=${row.user_id} name=${labelOf(row)} size="tiny" /><${Name} text=${labelOf(row)} /><small>@${row.user_id}</small></li>`)}
  </ul>`;
}

function About({ id, editing, target, nameOf, onCancel }) {
  if (!target) return null;
  return html`<div class="about"><span>${editing ? "Editing" : html`Reply to <${Name} text=${nameOf(target.actor)} />`}</span>
    <bdi class="preview">${summaryOf(target)}</bdi>
    <button type="button" class="quiet" aria-label=${editing ? "Cancel editing" : "Cancel reply"} onClick=${onCancel}><${Icon} name="close" /></button></div>`;
}

/** The newest own message that can be edited. */
function lastEditable(timeline, me) {
  return [...timeline.order].reverse().map((seq) => timeline.rows[seq])
    .find((row) => row && row.actor === me && !row.recalled && typedOf(row.content) !== null);
}

export function Composer({ state, id, timeline, nameOf, refusal }) {
  const chat = useChat();
  const box = useRef(null);
  const [chosen, setChosen] = useState(0);
  const [cursor, setCursor] = useState(null);
  const text = state.drafts[id] ?? "";
  const editing = state.editing[id] ?? null;
  const replyTo = state.replyTo[id] ?? null;
  const isGroup = state.conversations[id].kind === "group";
  const found = cursor === null ? null : mentionBeforeCursor(text, cursor);
  const rows = completionsFor(found, state.members[id]?.people ?? {}, isGroup);
  const setText = (next) => chat.dispatch({ type: "draft", id, text: next });

  useEffect(() => box.current?.focus(), [editing, id]);
  useLayoutEffect(() => {
    if (box.current === null) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight + 2, 220)}px`;
  }, [text, id]);

  const cancel = () => {
    if (editing !== null) setText("");
    chat.dispatch({ type: "editing", id, seq: null });
    chat.dispatch({ type: "reply_to", id, seq: null });
  };
  const submit = () => {
    if (text.trim() === "") return;
    setText("");
    setCursor(null);
    chat.submit(id, text);
    box.current?.focus();
  };
  const pick = (row) => {
    const next = `${text.slice(0, found.start)}@${row.user_id} ${text.slice(cursor)}`;
    const place = found.start + row.user_id.length + 2;
    setText(next);
    setCursor(null);
    requestAnimationFrame(() => box.current?.setSelectionRange(place, place));
  };
  const onInput = (event) => {
    setText(event.currentTarget.value);
    setCursor(event.currentTarget.selectionStart);
    setChosen(0);
    chat.typing(id, event.currentTarget.value !== "" && editing === null);
  };
  const onCompletionKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) setChosen((chosen + step + rows.length) % rows.length);
    else if (event.key === "Enter" || event.key === "Tab") pick(rows[chosen]);
    else if (event.key === "Escape") setCursor(null);
    else return false;
    event.preventDefault();
    return true;
  };
  const onKeyDown = (event) => {
    // An input method's Enter picks a word; it sends nothing.
    if (event.isComposing || (rows.length > 0 && onCompletionKey(event))) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape") {
      cancel();
    } else if (event.key === "ArrowUp" && text === "" && editing === null) {
      const row = lastEditable(timeline, state.me.user_id);
      if (row) {
        event.preventDefault();
        chat.edit(id, row);
      }
    }
  };

  if (refusal) return html`<div class="composer closed"><p>${refusal}</p></div>`;
  const target = timeline.rows[editing ?? replyTo];
  return html`<form class="composer" onSubmit=${(event) => { event.preventDefault(); submit(); }}>
    <${Completions} rows=${rows} chosen=${chosen} onPick=${pick} />
    <${About} id=${id} editing=${editing !== null} target=${target} nameOf=${nameOf} onCancel=${cancel} />
    <div class="write">
      <textarea id="composer" ref=${box} rows="1" value=${text} dir="auto" placeholder="Write a message" aria-label="Message"
        aria-autocomplete="list" aria-controls=${rows.length > 0 ? "completions" : null} aria-activedescendant=${rows.length > 0 ? `completion-${chosen}` : null}
        onInput=${onInput} onKeyDown=${onKeyDown} onBlur=${() => { chat.typing(id, false); setCursor(null); }}></textarea>
      <button type="submit" class="send" aria-label=${editing !== null ? "Save" : "Send"} title="Send (Enter)" disabled=${text.trim() === ""}><${Icon} name="send" /></button>
    </div>
  </form>`;
}
