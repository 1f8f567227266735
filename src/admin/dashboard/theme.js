// Which theme is shown: the system's, or the one that was chosen here. It runs before the first paint, so that nothing flashes.

{
  const KEY = "bunnel-theme";
  const root = document.documentElement;

  /** @param {string | null} choice */
  const apply = (choice) => {
    if (choice === "light" || choice === "dark") root.dataset.theme = choice;
    else delete root.dataset.theme;
    dispatchEvent(new Event("bunnel-theme"));
  };

  /** Storage may be shut by the browser's settings; the system's theme is shown then. */
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };

  apply(stored());
  addEventListener("DOMContentLoaded", () => {
    const select = document.querySelector("#theme");
    if (!(select instanceof HTMLSelectElement)) return;
    select.value = root.dataset.theme ?? "system";
    select.addEventListener("change", () => {
      apply(select.value);
      try {
        localStorage.setItem(KEY, select.value);
      } catch {
        // The choice holds as long as the page is open.
      }
    });
  });
}
