"use strict";
(() => {
  const root = document.documentElement;
  const panels = JSON.parse(document.getElementById("figures").textContent);
  const drawn = new Map();

  // Theme: the reader's system decides until the reader does.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = document.getElementById("theme");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const remember = (theme) => { try { localStorage.setItem("pkgctl-theme", theme); } catch { /* private mode */ } };
  const recall = () => { try { return localStorage.getItem("pkgctl-theme"); } catch { return null; } };
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  if (recall()) root.dataset.theme = recall();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember(root.dataset.theme);
    repaint();
  });
  system.addEventListener("change", () => repaint());

  // "@s1" in a panel is the colour --s1 of the page.
  const paint = (value, style) => {
    if (typeof value === "string" && value[0] === "@") return style.getPropertyValue("--" + value.slice(1)).trim();
    if (Array.isArray(value)) return value.map((each) => paint(each, style));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, paint(each, style)]));
    }
    return value;
  };
  const axis = (own) => ({
    gridcolor: "@grid", linecolor: "@line", zeroline: false, automargin: true, fixedrange: false,
    ticks: "outside", ticklen: 4, tickcolor: "@line", ...own,
    title: { font: { size: 12, color: "@muted" }, standoff: 8, ...(own || {}).title },
  });
  const themed = (layout) => ({
    height: 250, margin: { l: 8, r: 12, t: 22, b: 8 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "@muted" },
    hoverlabel: { bgcolor: "@card", bordercolor: "@line", font: { color: "@text", size: 12 }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: "@muted", activecolor: "@accent" },
    ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis),
  });
  const config = {
    displaylogo: false, displayModeBar: matchMedia("(hover: hover)").matches,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg" },
  };
  const draw = (panel) => {
    const style = getComputedStyle(root);
    drawn.set(panel.id, panel);
    return Plotly.react(panel.id, paint(panel.data, style), paint(themed(panel.layout), style), config);
  };
  const repaint = () => { label(); drawn.forEach(draw); };
  label();

  // The drawing library comes packed inside this page.
  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("drawing").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  const drawAll = () => panels.forEach((panel) => drawn.has(panel.id) || draw(panel));
  const start = async () => {
    if (!panels.length) return;
    await unpack();
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((each) => each.isIntersecting)) {
        seen.unobserve(entry.target);
        draw(panels.find((panel) => panel.id === entry.target.id));
      }
    }, { rootMargin: "600px" });
    panels.forEach((panel) => seen.observe(document.getElementById(panel.id)));
    // A plot's box can change without the window: a font, a scroll bar, an opened part.
    const fit = new ResizeObserver((entries) => {
      for (const { target } of entries) if (drawn.has(target.id)) Plotly.Plots.resize(target);
    });
    panels.forEach((panel) => fit.observe(document.getElementById(panel.id)));
    addEventListener("beforeprint", () => { drawAll(); drawn.forEach(draw); });
    addEventListener("afterprint", () => repaint());
  };
  start().catch(() => {
    document.querySelectorAll(".plot").forEach((plot) => {
      plot.textContent = "This browser cannot draw the chart; its numbers are in the table below.";
      plot.style.minHeight = "0";
    });
  });

  // A square's numbers are read out below its matrix, for pointers and fingers alike.
  document.querySelectorAll(".matrix").forEach((matrix) => {
    const readout = matrix.parentElement.nextElementSibling;
    const tell = (event) => {
      const square = event.target.closest("td[title]");
      readout.textContent = square ? square.title : readout.dataset.hint;
    };
    matrix.addEventListener("pointerover", tell);
    matrix.addEventListener("click", tell);
  });
})();
