// Small pieces that several views use.

import { hueOf, initialOf } from "../format.js";
import { html, useEffect, useId, useRef, useState } from "../html.js";

/** A person's or group's initial on its own colour, with a dot when presence is known. */
export function Avatar({ id, name, online, size = "" }) {
  const dot =
    online === undefined
      ? null
      : html`<span class=${`dot ${online ? "on" : ""}`} title=${online ? "online" : "offline"}></span>`;
  return html`<span class=${`avatar hue-${hueOf(id)} ${size}`}
      aria-hidden="true">${initialOf(name || id)}${dot}</span>`;
}

/** Class names from `{name: whether}`. */
export function classes(names) {
  return Object.keys(names)
    .filter((name) => names[name])
    .join(" ");
}

/** Somebody else's words, kept from turning the text around them. */
export function Name({ text }) {
  return html`<bdi class="name">${text}</bdi>`;
}

/** A dialog over the page. Esc and the cross close it; the focus stays inside and goes back afterwards. */
export function Dialog({ title, onClose, children, wide = false }) {
  const element = useRef(null);
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  const onBackdrop = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${wide ? "wide" : ""} aria-label=${title} onCancel=${(event) => {
    event.preventDefault();
    onClose();
  }}
      onMouseDown=${onBackdrop}>
    <div class="dialog-body">
      <header><h2>${title}</h2><button type="button" class="quiet" aria-label="Close"
          onClick=${onClose}>✕</button></header>
      ${children}
    </div>
  </dialog>`;
}

/** A form that runs `onSubmit(fields)` once at a time and shows its refusal. */
export function Form({ onSubmit, children, label, id }) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    const fields = Object.fromEntries(new FormData(event.currentTarget));
    setBusy(true);
    setProblem("");
    try {
      await onSubmit(fields);
    } catch (error) {
      setProblem(error.sentence ?? error.message);
    }
    setBusy(false);
  };
  return html`<form id=${id} onSubmit=${submit} aria-busy=${busy} novalidate>
    ${children}
    ${problem && html`<p class="problem" role="alert"><bdi>${problem}</bdi></p>`}
    ${label && html`<button type="submit" class="primary" disabled=${busy}>${label}</button>`}
  </form>`;
}

/** A labelled input, with a hint that belongs to it but not to its name. */
export function Field({ label, hint, ...input }) {
  const id = useId();
  return html`<div class="field"><label for=${id}>${label}</label>
    <input id=${id} aria-describedby=${hint ? `${id}-hint` : null} ...${input} />
    ${hint && html`<small id=${`${id}-hint`}>${hint}</small>`}</div>`;
}

/** Which of several tabs is shown. */
export function Tabs({ label, tabs, chosen, onChoose }) {
  return html`<div class="tabs" role="tablist" aria-label=${label}>
    ${tabs.map(
      ([key, text]) => html`<button key=${key} type="button" role="tab" aria-selected=${chosen === key}
      class=${chosen === key ? "chosen" : ""} onClick=${() => onChoose(key)}>${text}</button>`,
    )}
  </div>`;
}
