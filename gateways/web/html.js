// What every view needs: markup as tagged templates, hooks, and a component that skips needless work.

import { Component, createContext, h, render } from "./vendor/preact.js";
import { useContext, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./vendor/hooks.js";
import htm from "./vendor/htm.js";

export {
  Component,
  createContext,
  render,
  useContext,
  useEffect,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
};

/** Markup. Values put into it are always text or attributes; no string is ever read as markup. */
export const html = htm.bind(h);

/** The page's `Chat`, for views that do things. */
export const ChatContext = createContext(null);
export const useChat = () => useContext(ChatContext);

/** A view that is drawn again only when one of its properties is another value. */
export function memo(view) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const names = new Set([...Object.keys(next), ...Object.keys(this.props)]);
      return [...names].some((name) => next[name] !== this.props[name]);
    }

    render(properties) {
      return h(view, properties);
    }
  };
}

const PATHS = {
  plus: "M8 3v10M3 8h10",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10zM10.6 10.6 14 14",
  back: "M10 3 5 8l5 5",
  people:
    "M6 7.5a2.4 2.4 0 1 0 0-4.8 2.4 2.4 0 0 0 0 4.8zM1.8 13.3c0-2.4 1.9-4 4.2-4s4.2 1.6 4.2 4M10.8 3a2.3 2.3 0 0 1 0 4.4M12 9.6c1.4.5 2.3 1.8 2.3 3.7",
  reply: "M6.5 3.5 2.5 7.5l4 4M3 7.5h6.5a4 4 0 0 1 4 4v1",
  smile: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.6 9.4c.5 1 1.4 1.5 2.4 1.5s1.9-.5 2.4-1.5M6 6.3v.4M10 6.3v.4",
  edit: "M10.8 3 13 5.2 5.4 12.8l-2.9.7.7-2.9z",
  pin: "M9.8 2.2 13.8 6.2 11.4 7.4 9.6 11.6 4.4 6.4 8.6 4.6zM6.6 9.4 2.5 13.5",
  recall: "M3 4.5h10M6.2 4.5V3h3.6v1.5M4.4 4.5 5 13.2h6l.6-8.7",
  close: "M4 4l8 8M12 4l-8 8",
  down: "M8 3v9.5M3.8 8.6 8 12.8l4.2-4.2",
  send: "M2.8 8 13.2 3 10 13 7.6 8.9z",
  exit: "M9.5 3H3.5v10h6M7 8h7M11.5 5.5 14 8l-2.5 2.5",
  bell: "M4 11.2V7.4a4 4 0 0 1 8 0v3.8l1 1H3zM6.8 13.8h2.4",
};

/** A line drawing of 16 by 16. It carries no name: the control around it does. */
export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 16 16" aria-hidden="true"><path d=${PATHS[name]} /></svg>`;
}
