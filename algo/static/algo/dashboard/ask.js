// One question to the server. Who is no longer signed in is led to the login.
export async function ask(address) {
  const answer = await fetch(address, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (answer.redirected || answer.status === 401) {
    window.location.reload();
    return new Promise(() => {}); // the page is about to go
  }
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

// `work` once, a while after it was last asked for, but never more often than every `rest` milliseconds. The wait
// differs from page to page, so that all who saw the same event do not ask at once.
export function calmly(work, { wait, spread = 0, rest = 0 }) {
  let timer = 0;
  let last = -Infinity;
  return () => {
    if (timer) return;
    const due = Math.max(wait + Math.random() * spread, last + rest - performance.now());
    timer = window.setTimeout(() => {
      timer = 0;
      last = performance.now();
      work();
    }, due);
  };
}
