"use strict";
(() => {
  const slider = document.getElementById("frame"), button = document.getElementById("play");
  const label = document.getElementById("label");
  const labels = [...document.querySelectorAll("#labels li")].map((one) => one.textContent);
  const figures = [...document.querySelectorAll(".maps figure")].map((one) => [...one.querySelectorAll(".frame")]);
  const marks = [...document.querySelectorAll(".now")].map((one) => [one, one.dataset.places.split(" ")]);
  let timer = 0;

  const show = () => {
    const place = Number(slider.value);
    label.textContent = labels[place];
    slider.setAttribute("aria-valuetext", labels[place]);
    for (const frames of figures) frames.forEach((one, at) => one.classList.toggle("on", at === place));
    for (const [mark, places] of marks) mark.setAttribute("transform", `translate(${places[place]})`);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "Play";
  };
  const next = () => {
    if (slider.value === slider.max) return stop();
    slider.value = Number(slider.value) + 1;
    show();
  };
  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) { slider.value = 0; show(); }
    button.textContent = "Pause";
    timer = setInterval(next, 700);
  });
  show();
})();
