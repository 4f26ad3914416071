// A table whose rows are made from a template and kept by id. Never more than `most` rows.
export class Rows {
  #body; #template; #table; #empty; #most; #rows = new Map();

  constructor(name, most) {
    this.#table = document.getElementById(`${name}s`);
    this.#body = this.#table.tBodies[0];
    this.#empty = document.getElementById(`${name}s-empty`);
    this.#template = document.getElementById(`${name}-row`);
    this.#most = most;
  }

  get size() {
    return this.#rows.size;
  }

  get ids() {
    return this.#rows.keys();
  }

  // The places of a row by their names. A new one stands before the row of `before`, or first.
  put(id, before = null) {
    if (!this.#rows.has(id)) {
      const row = this.#template.content.firstElementChild.cloneNode(true);
      const places = { row };
      for (const place of row.querySelectorAll("[data-of]")) places[place.dataset.of] = place;
      this.#body.insertBefore(row, before === null ? this.#body.firstChild : before);
      this.#rows.set(id, places);
      while (this.#rows.size > this.#most) this.#drop(this.#idOfLast());
      this.#shown();
    }
    return this.#rows.get(id);
  }

  has(id) {
    return this.#rows.has(id);
  }

  remove(id) {
    this.#drop(id);
    this.#shown();
  }

  keep(ids) {
    for (const id of [...this.#rows.keys()]) if (!ids.has(id)) this.#drop(id);
    this.#shown();
  }

  #idOfLast() {
    for (const [id, places] of this.#rows) if (places.row === this.#body.lastElementChild) return id;
    return null;
  }

  #drop(id) {
    this.#rows.get(id)?.row.remove();
    this.#rows.delete(id);
  }

  #shown() {
    this.#table.hidden = this.#rows.size === 0;
    this.#empty.hidden = this.#rows.size > 0;
  }
}

// Only what differs is written: the screen reader and the browser have nothing to do for the rest.
export function write(place, text, tone) {
  if (place.textContent !== text) place.textContent = text;
  if (tone !== undefined && place.className !== tone) place.className = tone;
}
