// The entry: what every page does, whether or not it is live.
import { follow, show } from "./live.js";

show(document);
setInterval(() => document.hidden || show(document), 5000);

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  try {
    const beside = button.parentElement.querySelector("code");
    await navigator.clipboard.writeText(button.dataset.copy || beside?.title || beside?.textContent || "");
    button.classList.add("done");
    setTimeout(() => button.classList.remove("done"), 1500);
  } catch { /* no permission: the text can still be selected */ }
});

// A key focuses or presses what is marked with it, unless somebody is typing.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) return;
  const target = document.querySelector(`[data-keys="${CSS.escape(event.key)}"]`);
  if (!target) return;
  event.preventDefault();
  if (target.matches("input, select, textarea")) target.focus();
  else target.click();
});

// A box that is marked with a name ticks all boxes of that name.
document.addEventListener("change", (event) => {
  const name = event.target.dataset?.select;
  if (!name) return;
  for (const box of document.querySelectorAll(`input[type=checkbox][name="${CSS.escape(name)}"]`)) {
    box.checked = event.target.checked;
  }
});

// The last ten things that were looked for in this tab, and nothing else, are kept: until the tab is closed.
const palette = document.getElementById("palette");
if (palette) {
  const kept = JSON.parse(sessionStorage.getItem("acp-found") || "[]");
  const list = document.createElement("datalist");
  list.id = "found";
  list.append(...kept.map((text) => new Option("", text)));
  palette.after(list);
  palette.setAttribute("list", "found");
  palette.form.addEventListener("submit", () => {
    const text = palette.value.trim();
    if (text) sessionStorage.setItem("acp-found", JSON.stringify([text, ...kept.filter((one) => one !== text)].slice(0, 10)));
  });
}

// Who signs out in one tab leaves all of them.
const doors = new BroadcastChannel("acp-door");
doors.onmessage = () => { sessionStorage.clear(); location.replace("/console/login"); };
document.addEventListener("submit", (event) => {
  if (!("logout" in event.target.dataset)) return;
  sessionStorage.clear();
  doors.postMessage("out");
});

follow();
