// The line under the pointer and what was so at that moment, and the way to a moment of a long run.
(() => {
  const { seconds, began, series, faults } = JSON.parse(document.getElementById("data").textContent);
  const plot = document.querySelector("svg.plot");
  const cursor = plot.querySelector(".cursor");
  const readout = document.getElementById("readout");
  const scroll = document.querySelector(".scroll");
  const clock = (at) => `${Math.floor(at / 60)}:${(Math.floor((at % 60) * 10) / 10).toFixed(1).padStart(4, "0")}`;
  const wall = (at) => (began ? `, in logs ${new Date(Date.parse(began) + at * 1e3).toISOString().slice(11, 21)}` : "");
  const latency = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);
  const mark = (share) => {
    cursor.setAttribute("x1", share * plot.viewBox.baseVal.width);
    cursor.setAttribute("x2", share * plot.viewBox.baseVal.width);
  };
  const show = (share) => {
    scroll.scrollLeft = share * scroll.scrollWidth - scroll.clientWidth / 2;
  };

  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    const at = share * seconds;
    const n = Math.min(Math.max(Math.floor(at / series.width_s), 0), series.writes.length - 1);
    mark(share);
    const lines = [
      clock(at) + wall(at),
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
    mark(-1);
  });
  document.addEventListener("click", (event) => {
    const at = event.target.closest("[data-at]")?.dataset.at;
    if (at === undefined) return;
    show(at / seconds);
    mark(at / seconds);
  });

  const overview = document.querySelector(".overview");
  const frame = overview.querySelector(".window");
  const follow = () => {
    overview.parentElement.hidden = scroll.scrollWidth <= scroll.clientWidth;
    frame.style.left = `${(100 * scroll.scrollLeft) / scroll.scrollWidth}%`;
    frame.style.width = `${(100 * scroll.clientWidth) / scroll.scrollWidth}%`;
  };
  const drag = (event) => {
    const box = overview.getBoundingClientRect();
    if (event.buttons) show((event.clientX - box.left) / box.width);
  };
  frame.hidden = false;
  scroll.addEventListener("scroll", follow);
  addEventListener("resize", follow);
  overview.addEventListener("pointerdown", (event) => {
    overview.setPointerCapture(event.pointerId);
    drag(event);
  });
  overview.addEventListener("pointermove", drag);
  follow();
})();
