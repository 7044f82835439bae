"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const picture = element("picture"), lanes = element("lanes"), slider = element("slice"), chooser = element("scan");
  const showTruth = element("show-truth"), showPrediction = element("show-prediction"), opacity = element("opacity");
  const switches = [...document.querySelectorAll("[data-organ]")];
  const organs = switches.map((box) => box.closest("label").textContent.trim());
  const style = getComputedStyle(document.documentElement);
  const palette = [];
  for (let k = 0; style.getPropertyValue(`--c${k}`); k++) palette.push(style.getPropertyValue(`--c${k}`));
  const colorOf = (k) => palette[k % palette.length];
  const paleOf = (k) => `color-mix(in srgb, ${colorOf(k)} 45%, white)`;

  let scan = null;
  let images = new Map();

  function openScan(place) {
    scan = JSON.parse(element(`scan-${place}`).textContent);
    images = new Map();
    chooser.value = place;
    slider.max = scan.numbers.length - 1;
    for (const row of document.querySelectorAll("#scans tbody tr")) {
      const mine = row.querySelector(`[data-scan="${place}"]`);
      if (mine) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    goTo(fullestSlice());
  }

  // where to begin: the slice with the most organ on it
  function fullestSlice() {
    const sizes = scan.pixels.map((counts) => counts.reduce((sum, [a, b]) => sum + a + b, 0));
    return sizes.indexOf(Math.max(...sizes));
  }

  function goTo(z) {
    slider.value = Math.min(Math.max(z, 0), scan.numbers.length - 1);
    show();
  }

  function loadImage(z) {
    if (!images.has(z)) {
      const image = new Image();
      image.src = `data:image/webp;base64,${scan.images[z]}`;
      images.set(z, image.decode().then(() => image));
    }
    return images.get(z);
  }

  async function show() {
    const shownScan = scan, z = Number(slider.value);
    describe(z);
    drawLanes(z);
    const image = await loadImage(z);
    // a quicker hand may have gone on meanwhile
    if (scan !== shownScan || Number(slider.value) !== z) return;
    drawSlice(image, z);
    for (const next of [z - 1, z + 1]) if (next >= 0 && next < scan.numbers.length) loadImage(next);
  }

  function drawSlice(image, z) {
    const width = picture.parentElement.clientWidth * devicePixelRatio;
    const zoom = Math.max(width / scan.width, 1);
    picture.width = Math.round(scan.width * zoom);
    picture.height = Math.round(scan.height * zoom);
    const context = picture.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, picture.width, picture.height);
    context.globalAlpha = opacity.value / 100;
    context.lineWidth = 1.6 * devicePixelRatio;
    context.lineJoin = "round";
    switches.forEach((box, k) => {
      if (!box.checked) return;
      if (showTruth.checked) stroke(context, scan.truth[z][k], zoom, colorOf(k), []);
      if (showPrediction.checked) stroke(context, scan.prediction[z][k], zoom, paleOf(k), [5, 4]);
    });
  }

  function stroke(context, outlines, zoom, color, dash) {
    context.strokeStyle = color;
    context.setLineDash(dash.map((length) => length * devicePixelRatio));
    context.beginPath();
    for (const [startX, startY, ...steps] of outlines) {
      let x = startX, y = startY;
      context.moveTo(x * zoom, y * zoom);
      steps.forEach((step, i) => {
        if (i % 2) y += step;
        else x += step;
        context.lineTo(x * zoom, y * zoom);
      });
      context.closePath();
    }
    context.stroke();
  }

  function describe(z) {
    const told = scan.pixels[z].map(([truth, predicted, common], k) => {
      const dice = truth + predicted ? (2 * common / (truth + predicted)).toFixed(3) : "–";
      const cells = switches[k].closest("tr").querySelectorAll("td");
      [truth, predicted, dice].forEach((value, i) => { cells[i].textContent = value; });
      return `${organs[k]} ${truth} pixels true, ${predicted} predicted, Dice ${dice}`;
    });
    const place = `${scan.numbers[z]} (${z + 1} of ${scan.numbers.length})`;
    element("number").textContent = place;
    element("caption").textContent = `${scan.name}, slice ${place}`;
    slider.setAttribute("aria-valuetext", `slice ${place}`);
    picture.setAttribute("aria-label", `${scan.name}, slice ${place}: ${told.join("; ")}`);
  }

  // the thumb's centre stays half its width from the slider's ends
  const THUMB = 8;

  function drawLanes(z) {
    const ratio = devicePixelRatio, width = lanes.clientWidth, height = lanes.clientHeight;
    lanes.width = width * ratio;
    lanes.height = height * ratio;
    const context = lanes.getContext("2d");
    context.scale(ratio, ratio);
    const step = (width - 2 * THUMB) / Math.max(scan.numbers.length - 1, 1);
    const lane = height / organs.length, half = (lane - 3) / 2;
    const here = getComputedStyle(document.body);
    context.fillStyle = here.getPropertyValue("--rule");
    context.globalAlpha = 0.35;
    for (let k = 0; k < organs.length; k++) context.fillRect(0, k * lane + 1, width, lane - 3);
    context.globalAlpha = 1;
    scan.pixels.forEach((counts, i) => counts.forEach(([truth, predicted], k) => {
      const x = THUMB + (i - 0.5) * step, y = k * lane + 1;
      context.fillStyle = colorOf(k);
      if (truth) context.fillRect(x, y, step + 0.5, half);
      if (predicted) context.fillRect(x, y + half + 1, step + 0.5, half - 1);
    }));
    context.fillStyle = here.color;
    context.fillRect(THUMB + z * step - 1, 0, 2, height);
  }

  function pick(event) {
    const box = lanes.getBoundingClientRect();
    const share = (event.clientX - box.left - THUMB) / (box.width - 2 * THUMB);
    goTo(Math.round(share * (scan.numbers.length - 1)));
  }

  function flip(box) {
    box.checked = !box.checked;
    show();
  }

  function onKey(event) {
    const target = event.target, inViewer = element("browser").contains(target);
    if (event.altKey || event.ctrlKey || event.metaKey || !(inViewer || target === document.body)) return;
    // what a slider or a list does with the arrows itself stays its own
    const ownsArrows = target.matches("input[type=range], select");
    const z = Number(slider.value), key = event.key.toLowerCase();
    if (key === "arrowleft" && !ownsArrows) goTo(z - 1);
    else if (key === "arrowright" && !ownsArrows) goTo(z + 1);
    else if (target.matches("select")) return;
    else if (key === "t") flip(showTruth);
    else if (key === "p") flip(showPrediction);
    else if (key === "n") openScan((Number(chooser.value) + 1) % chooser.options.length);
    else if (switches[Number(key) - 1]) flip(switches[Number(key) - 1]);
    else return;
    event.preventDefault();
  }

  function sortBy(head) {
    const heads = [...head.parentElement.children], column = heads.indexOf(head);
    // where high is bad the first click shows the highest
    const first = head.textContent.includes("Hausdorff") ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? other : first;
    for (const one of heads) one.setAttribute("aria-sort", one === head ? order : "none");
    const sign = order === "ascending" ? 1 : -1;
    const body = head.closest("table").tBodies[0];
    const valueOf = (row) => row.children[column].dataset.value;
    const rows = [...body.rows].sort((a, b) => compare(valueOf(a), valueOf(b), sign));
    body.append(...rows);
  }

  // a scan without a value comes last whatever the order
  function compare(a, b, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : Number(a) - Number(b));
  }

  for (const head of document.querySelectorAll("#scans th[aria-sort]")) {
    head.querySelector("button").addEventListener("click", () => sortBy(head));
  }
  if (!chooser.options.length) return;
  for (const box of [...switches, showTruth, showPrediction]) box.addEventListener("change", show);
  for (const range of [slider, opacity]) range.addEventListener("input", show);
  chooser.addEventListener("change", () => openScan(chooser.value));
  lanes.addEventListener("pointerdown", pick);
  lanes.addEventListener("pointermove", (event) => { if (event.buttons) pick(event); });
  document.addEventListener("keydown", onKey);
  addEventListener("resize", show);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  for (const button of document.querySelectorAll("button[data-scan]")) {
    button.addEventListener("click", () => {
      openScan(button.dataset.scan);
      element("browser").scrollIntoView();
      picture.focus({ preventScroll: true });
    });
  }
  openScan(0);
})();
