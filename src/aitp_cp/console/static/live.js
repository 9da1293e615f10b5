// Live regions ask for themselves again when the bell rings for one of their topics.
export function follow() {}
