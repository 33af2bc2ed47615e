// A classic script, so that it runs before the first paint: a page that flashes white at night is no good neighbour.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("sandhog.theme");
  } catch {
    // Storage can be switched off; the system's preference holds then.
  }
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
})();
