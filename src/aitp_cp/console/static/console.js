// The entry: what every page does, whether or not it is live.
import { follow, parsed, show, tick } from "./live.js";

show(document);
let ticks = 0;
setInterval(() => { if (!document.hidden) { tick(); if (ticks++ % 5 === 0) show(document); } }, 1000);

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
  if ((event.ctrlKey || event.metaKey) && event.key === "k" && palette) {
    event.preventDefault();
    palette.focus();
  }
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

// The palette offers what the search finds; before anything is typed, the last ten things that were looked for in this
// tab. Those are kept until the tab is closed, and nothing else is.
const SUGGEST_MS = 200;
const MOST = 8;
const palette = document.getElementById("palette");
if (palette) {
  const kept = JSON.parse(sessionStorage.getItem("acp-found") || "[]");
  const list = document.createElement("ul");
  Object.assign(list, { id: "found", className: "found", role: "listbox", ariaLabel: "suggestions", hidden: true });
  palette.after(list);
  for (const [name, value] of [["role", "combobox"], ["aria-controls", "found"], ["aria-autocomplete", "list"], ["aria-expanded", "false"]]) {
    palette.setAttribute(name, value);
  }
  let chosen = -1;
  let timer = 0;
  let asking = new AbortController();

  const choose = (index) => {
    chosen = index;
    [...list.children].forEach((item, at) => item.setAttribute("aria-selected", String(at === index)));
    if (index < 0) palette.removeAttribute("aria-activedescendant");
    else palette.setAttribute("aria-activedescendant", list.children[index].id);
  };
  const offer = (items) => {
    list.replaceChildren(...items.slice(0, MOST).map(([text, href], index) => {
      const item = document.createElement("li");
      Object.assign(item, { id: `found-${index}`, role: "option", textContent: text });
      item.dataset.to = href;
      return item;
    }));
    list.hidden = !items.length;
    palette.setAttribute("aria-expanded", String(!list.hidden));
    choose(-1);
  };
  const search = (text) => `/console/search?q=${encodeURIComponent(text)}`;
  const suggest = async () => {
    const text = palette.value.trim();
    asking.abort();
    if (!text) return offer(kept.map((each) => [each, search(each)]));
    asking = new AbortController();
    try {
      const answer = await fetch(search(text), { headers: { "X-Fragment": "hits" }, signal: asking.signal });
      if (!answer.ok) return offer([]);
      const hits = parsed(await answer.text()).querySelectorAll("#hits li");
      return offer([...hits].map((hit) => [hit.textContent.replace(/\s+/g, " ").trim(), hit.querySelector("a").getAttribute("href")]));
    } catch { return undefined; /* another letter was typed, or nobody answers: the search itself says so */ }
  };
  palette.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(suggest, SUGGEST_MS);
  });
  palette.addEventListener("focus", () => palette.value || suggest());
  palette.addEventListener("blur", () => { clearTimeout(timer); asking.abort(); offer([]); });
  palette.addEventListener("keydown", (event) => {
    const count = list.children.length;
    if (event.key === "Escape" && count) offer([]);
    else if (event.key === "ArrowDown" && count) choose((chosen + 1) % count);
    else if (event.key === "ArrowUp" && count) choose(chosen > 0 ? chosen - 1 : count - 1);
    else if (event.key === "Enter" && chosen >= 0) location.assign(list.children[chosen].dataset.to);
    else return;
    event.preventDefault();
  });
  list.addEventListener("mousedown", (event) => {
    event.preventDefault(); // the field keeps the focus
    const item = event.target.closest("li");
    if (item) location.assign(item.dataset.to);
  });
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
