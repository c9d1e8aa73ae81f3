// The line under the pointer, and what was so at that moment.
(() => {
  const { seconds, series, faults } = JSON.parse(document.getElementById("data").textContent);
  const plot = document.querySelector("svg.plot");
  const cursor = plot.querySelector(".cursor");
  const readout = document.getElementById("readout");
  const clock = (at) => `${Math.floor(at / 60)}:${(at % 60).toFixed(1).padStart(4, "0")}`;
  const latency = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const at = share * seconds;
    const n = Math.min(Math.max(Math.floor(at / series.width_s), 0), series.writes.length - 1);
    cursor.setAttribute("x1", share * plot.viewBox.baseVal.width);
    cursor.setAttribute("x2", share * plot.viewBox.baseVal.width);
    const lines = [
      clock(at),
      `${series.writes[n]} writes/s, ${series.reads[n]} reads/s`,
      `median ${latency(series.p50_ms[n])}, 99 % ${latency(series.p99_ms[n])}`,
    ];
    if (series.refused[n] || series.unknown[n]) {
      lines.push(`${series.refused[n]} refused/s, ${series.unknown[n]} unknown/s`);
    }
    for (const [began, healed, words] of faults) if (began <= at && at <= healed) lines.push(words);
    readout.textContent = lines.join("\n");
    readout.hidden = false;
    const left = event.clientX + 16;
    readout.style.left = `${left + readout.offsetWidth > innerWidth ? left - readout.offsetWidth - 32 : left}px`;
    readout.style.top = `${event.clientY + 16}px`;
  });
  plot.addEventListener("pointerleave", () => {
    readout.hidden = true;
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
  });
})();
