"""The loss curve as a small SVG."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 230, 46, 14, 12, 34


def picture(path, points):
    """points: (step, loss). Every step is a dot; the line is the running mean of nine, since every step has another source."""
    x1, y1 = max(x for x, _ in points), max(y for _, y in points) * 1.05
    px = lambda x: LEFT + x / x1 * (WIDTH - LEFT - RIGHT)
    py = lambda y: HEIGHT - BOTTOM - y / y1 * (HEIGHT - TOP - BOTTOM)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="11" fill="#5c6b7a">']
    out.append(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')
    for y in ticks(y1, 5):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#e3e8ee"/><text x="{LEFT - 7}" y="{py(y) + 3.5:.1f}" text-anchor="end">{y:g}</text>')
    for x in ticks(x1, 8):
        out.append(f'<text x="{px(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    out.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">step</text><text x="{LEFT + 6}" y="{TOP + 10}">loss</text>')
    out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2" fill="#0072b2" fill-opacity="0.35"/>' for x, y in points]
    mean = []
    for i, (x, _) in enumerate(points):
        near = [y for _, y in points[max(0, i - 4):i + 5]]
        mean.append(f"{px(x):.1f},{py(sum(near) / len(near)):.1f}")
    out.append(f'<polyline fill="none" stroke="#0072b2" stroke-width="1.8" stroke-linejoin="round" points="{" ".join(mean)}"/></svg>')
    path.write_text("\n".join(out) + "\n")


def ticks(top, n):
    """About n round values from 0 to top: multiples of 1, 2 or 5 times a power of ten."""
    step = 10.0 ** -9
    for factor in [2, 2.5, 2] * 20:
        if top / step <= n:
            break
        step *= factor
    return [i * step for i in range(int(top / step) + 1)]
