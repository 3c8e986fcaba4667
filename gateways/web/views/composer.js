// Where messages are written: answers, edits, drafts, and names completed after an @.

import { summaryOf, typedOf } from "../content.js";
import { html, Icon, useChat, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { inOrder, labelOf } from "../roster.js";
import { mentionBeforeCursor } from "../text.js";
import { Avatar, Name } from "./common.js";

const COMPLETIONS_MAX = 8;
const HEIGHT_MAX_PX = 220;

function completionsFor(found, members, isGroup) {
  if (found === null || !isGroup) return [];
  const all = { user_id: "all", name: "everybody here" };
  const fits = (member) =>
    member.user_id.startsWith(found.query) || labelOf(member).toLowerCase().includes(found.query);
  return [...inOrder(members), all].filter(fits).slice(0, COMPLETIONS_MAX);
}

function Completions({ rows, chosen, onPick }) {
  if (rows.length === 0) return null;
  return html`<ul class="completions" role="listbox" id="completions" aria-label="People">
    ${rows.map(
      (
        row,
        index,
      ) => html`<li key=${row.user_id} role="option" id=${`completion-${index}`}
          aria-selected=${index === chosen} class=${index === chosen ? "chosen" : ""}
      onMouseDown=${(event) => {
        event.preventDefault();
        onPick(row);
      }}>
      <${Avatar} id=${row.user_id} name=${labelOf(row)} size="tiny" /><${Name}
          text=${labelOf(row)} /><small>@${row.user_id}</small></li>`,
    )}
  </ul>`;
}

function About({ editing, target, nameOf, onCancel }) {
  if (!target) return null;
  return html`<div class="about"><span>${editing ? "Editing" : html`Reply to <${Name}
      text=${nameOf(target.actor)} />`}</span>
    <bdi class="preview">${summaryOf(target)}</bdi>
    <button type="button" class="quiet" aria-label=${editing ? "Cancel editing" : "Cancel reply"}
        onClick=${onCancel}><${Icon} name="close" /></button></div>`;
}

/** The newest own message that can be edited. */
function lastEditable(timeline, me) {
  return [...timeline.order]
    .reverse()
    .map((seq) => timeline.rows[seq])
    .find((row) => row && row.actor === me && !row.recalled && typedOf(row.content) !== null);
}

/** The list of people for an unfinished @name: what it shows, and what keys and clicks do with it. */
function useCompletion({ state, id, text, setText, box }) {
  const [chosen, setChosen] = useState(0);
  const [cursor, setCursor] = useState(null);
  const isGroup = state.conversations[id].kind === "group";
  const found = cursor === null ? null : mentionBeforeCursor(text, cursor);
  const rows = completionsFor(found, state.members[id]?.people ?? {}, isGroup);
  const look = (at) => {
    setCursor(at);
    setChosen(0);
  };
  const pick = (row) => {
    const place = found.start + row.user_id.length + 2;
    setText(`${text.slice(0, found.start)}@${row.user_id} ${text.slice(cursor)}`);
    setCursor(null);
    requestAnimationFrame(() => box.current?.setSelectionRange(place, place));
  };
  /** True when the key was about the list. */
  const onKey = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (rows.length === 0) return false;
    if (step) setChosen((chosen + step + rows.length) % rows.length);
    else if (event.key === "Enter" || event.key === "Tab") pick(rows[chosen]);
    else if (event.key === "Escape") setCursor(null);
    else return false;
    event.preventDefault();
    return true;
  };
  return { rows, chosen, look, pick, onKey };
}

/** A box that is as high as its text, up to a bound. */
function useHeight(box, text, id) {
  useLayoutEffect(() => {
    if (box.current === null) return;
    box.current.style.height = "auto";
    box.current.style.height = `${Math.min(box.current.scrollHeight + 2, HEIGHT_MAX_PX)}px`;
  }, [text, id]);
}

export function Composer({ state, id, timeline, nameOf, refusal }) {
  const chat = useChat();
  const box = useRef(null);
  const text = state.drafts[id] ?? "";
  const editing = state.editing[id] ?? null;
  const setText = (next) => chat.dispatch({ type: "draft", id, text: next });
  const completion = useCompletion({ state, id, text, setText, box });
  useHeight(box, text, id);
  useEffect(() => box.current?.focus(), [editing, id]);

  const cancel = () => {
    if (editing !== null) setText("");
    chat.dispatch({ type: "editing", id, seq: null });
    chat.dispatch({ type: "reply_to", id, seq: null });
  };
  const submit = (event) => {
    event.preventDefault();
    if (text.trim() === "") return;
    setText("");
    completion.look(null);
    chat.submit(id, text);
    box.current?.focus();
  };
  const editLast = (event) => {
    const row = lastEditable(timeline, state.me.user_id);
    if (row === undefined) return;
    event.preventDefault();
    chat.edit(id, row);
  };
  const onInput = ({ currentTarget: { value, selectionStart } }) => {
    setText(value);
    completion.look(selectionStart);
    chat.typing(id, value !== "" && editing === null);
  };
  const onKeyDown = (event) => {
    // An input method's Enter picks a word; it sends nothing.
    if (event.isComposing || completion.onKey(event)) return;
    if (event.key === "Enter" && !event.shiftKey) submit(event);
    else if (event.key === "Escape") cancel();
    else if (event.key === "ArrowUp" && text === "" && editing === null) editLast(event);
  };
  const onBlur = () => {
    chat.typing(id, false);
    completion.look(null);
  };

  if (refusal) return html`<div class="composer closed"><p>${refusal}</p></div>`;
  const isListed = completion.rows.length > 0;
  return html`<form class="composer" onSubmit=${submit}>
    <${Completions} rows=${completion.rows} chosen=${completion.chosen} onPick=${completion.pick} />
    <${About} editing=${editing !== null} target=${timeline.rows[editing ?? state.replyTo[id]]} nameOf=${nameOf}
      onCancel=${cancel} />
    <div class="write">
      <textarea id="composer" ref=${box} rows="1" value=${text} dir="auto" placeholder="Write a message"
        aria-label="Message" aria-autocomplete="list" aria-controls=${isListed ? "completions" : null}
        aria-activedescendant=${isListed ? `completion-${completion.chosen}` : null}
        onInput=${onInput} onKeyDown=${onKeyDown} onBlur=${onBlur}></textarea>
      <button type="submit" class="send" aria-label=${editing !== null ? "Save" : "Send"} title="Send (Enter)"
        disabled=${text.trim() === ""}><${Icon} name="send" /></button>
    </div>
  </form>`;
}
