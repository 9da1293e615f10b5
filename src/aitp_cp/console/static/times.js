// Times as the reader wants them: how long ago, and in his own zone.
const steps = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]];

function distance(secs) {
  const size = Math.abs(secs);
  const [, unit, name] = steps.find(([limit]) => size < limit);
  const text = `${Math.floor(size / unit)} ${name}`;
  return secs >= 0 ? `${text} ago` : `in ${text}`;
}

function local(moment) {
  const two = (value, width = 2) => String(value).padStart(width, "0");
  const date = `${moment.getFullYear()}-${two(moment.getMonth() + 1)}-${two(moment.getDate())}`;
  const clock = [moment.getHours(), moment.getMinutes(), moment.getSeconds()].map((value) => two(value)).join(":");
  return `${date} ${clock}.${two(moment.getMilliseconds(), 3)}`;
}

export function show(root) {
  const zone = document.documentElement.dataset.zone;
  for (const element of root.querySelectorAll("time[data-time]")) {
    const millis = Number(element.dataset.time);
    let text = null;
    if ("ago" in element.dataset) text = distance((Date.now() - millis) / 1000);
    else if (zone === "local") text = local(new Date(millis));
    if (text !== null && element.textContent !== text) element.textContent = text;
  }
}
