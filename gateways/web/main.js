// Starts the page: the chat, its first drawing, and what the browser tells it.

import { Chat } from "./chat.js";
import { html, render } from "./html.js";
import { App } from "./views/app.js";

const chat = new Chat();

/** `#/c/ID` opens a conversation, `#/` the list. */
function follow() {
  if (!chat.session.isSignedIn) return;
  const [, kind, id] = location.hash.split("/");
  if (kind === "c" && id) chat.quietly(() => chat.open(decodeURIComponent(id)));
  else if (chat.state.open !== null) chat.dispatch({ type: "closed" });
}

window.addEventListener("hashchange", follow);
window.addEventListener("online", () => chat.session.isSignedIn && chat.socket.connect());
window.addEventListener("offline", () => chat.socket.pause());
document.addEventListener("visibilitychange", () => {
  // A tab that comes to the front does not wait for its back-off.
  if (document.visibilityState === "visible" && chat.state.connection.status === "waiting")
    chat.socket.connect();
});

render(html`<${App} chat=${chat} />`, document.getElementById("page"));
chat.onBegun = follow;
if (chat.session.isSignedIn) chat.begin();
